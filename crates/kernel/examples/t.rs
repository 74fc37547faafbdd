use std::time::Instant;
use forge_kernel::{*,execute::{*,scalar::Scalar,simd::Simd}, dd::Dd};
use forge_contract::{program::*,shard::*};
fn logn(mu:f64,s:f64)->Vec<Segment>{tables::amounts(6,|z| Dd::from(100.0)*(Dd::from(mu)+z*Dd::from(s)).exp()).unwrap()}
fn main(){
 for lambda in [2.0, 5.0, 300.0] {
 let p=Program{units:100,segment_bits:6,base:0,cap:25_000_000,components:vec![
  Component{counts:tables::poisson(lambda),amounts:logn(6.0,1.0),cap:5_000_000},
  Component{counts:tables::bernoulli(0.02),amounts:logn(10.0,1.5),cap:MAX_AMOUNT}]};
 p.check().unwrap();
 let id=ShardId{height:8,index:0};
 let n = if lambda>100.0 {1<<18} else {1u64<<22};
 let sh=|n|Shard{id,iterations:n,seed:seed::shard_seed(seed::explicit_root("x"),id)};
 let small=sh(200_003.min(n));
 let want=Scalar.execute(&p,&[small],&()).unwrap();
 let t=Instant::now(); Scalar.execute(&p,&[sh(n/16)],&()).unwrap(); println!("scalar {:.1} M/s", n as f64/16e6/t.elapsed().as_secs_f64());
 for b in Simd::levels(){
   let got=b.execute(&p,&[small],&()).unwrap();
   println!("{} equal {}", b.name(), got==want);
   let mut ts:Vec<f64>=(0..7).map(|_|{let t=Instant::now(); b.execute(&p,&[sh(n)],&()).unwrap(); t.elapsed().as_secs_f64()}).collect();
   ts.sort_by(f64::total_cmp);
   println!("  {:.1} M/s", n as f64/1e6/ts[3]);
 }}
}
