//! The same rows give the same bytes, on every machine and with every version of the libraries that
//! write them. A new version of these may change a hash here: say so in the changelog.

#![cfg(feature = "columnar")]

use forge_ord::{FileFormat, OrdTable, OrdValue, ord_writer};
use sha2::{Digest, Sha256};

/// A period loss table of two blocks.
fn file(format: FileFormat) -> Vec<u8> {
    let mut writer = ord_writer(format, OrdTable::Splt, 2, Vec::new()).unwrap();
    let one = OrdValue::Integer(1);
    for number in 0..150_000_u64 {
        let period = OrdValue::Integer((number / 3 + 1) as i32);
        let event = OrdValue::Integer((2_000_000 + number % 3) as i32);
        let loss = OrdValue::Amount(number * 2_654_435_761 % 100_000_000 + 1);
        let zero = OrdValue::Integer(0);
        let weight = OrdValue::Real(1.0 / 50_000.0);
        let row = [period, weight, event, period, one, one, zero, zero, one, one, loss, OrdValue::Amount(0)];
        writer.write_row(&row).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn files_have_the_same_bytes_everywhere() {
    let (parquet, arrow) = (file(FileFormat::Parquet), file(FileFormat::Arrow));
    assert!(parquet.starts_with(b"PAR1") && arrow.starts_with(b"ARROW1"));
    let hashes = [parquet, arrow].map(|bytes| hex::encode(Sha256::digest(&bytes)));
    let expected = [
        "471e06febc819f1657a1f447d001628433677d3f83dc217f673e21becf3266c3",
        "dd3a743673fb4db5dcd06fd35940d3bd82d25eb745ba221b317486de5bd1e094",
    ];
    assert_eq!(hashes, expected);
}
