//! An open device: its queue, compiled shaders, programs that were brought to it, and what has gone wrong with it. A
//! device that something has gone wrong with is not used again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use forge_contract::{digest::Digest, program::Program};
use forge_kernel::execute::ExecuteError;

use crate::{
    adapter::{Adapter, AdapterKind},
    batch::Lane,
    model::Model,
    pipelines::Pipelines,
    self_test,
    shader::Product,
};

/// Programs that are kept on the device.
const KEPT: usize = 8;

/// How many times as fast 64-bit integers have to be to be used.
const WORTH: f64 = 1.05;

/// How an adapter is used; tests use it in other ways than anybody else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How long the device may take to answer. Dispatches are cut to be far shorter.
    pub(crate) patience: Duration,
    /// Changes the shaders' source, as a driver would that compiles it wrongly.
    pub(crate) miscompile: fn(String) -> String,
    /// How products are made, in place of what is faster.
    pub(crate) product: Option<Product>,
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: Duration::from_secs(60), miscompile: |source| source, product: None }
    }
}

/// Why an adapter cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The machine has no adapter, or no driver for it.
    #[error("no Vulkan driver shows a GPU")]
    NoAdapter,
    /// The device could not be opened, or broke while it was tested.
    #[error("{adapter} cannot be used: {reason}")]
    Unusable {
        /// Name and driver.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// It computes other results than the scalar reference.
    #[error(
        "{adapter} is refused: it computes other results than the scalar reference ({reason}); its driver or hardware is \
         faulty"
    )]
    WrongResults {
        /// Name and driver.
        adapter: String,
        /// Where results differ.
        reason: String,
    },
}

/// A buffer that is to be read.
pub(crate) struct Mapping<'a> {
    slice: wgpu::BufferSlice<'a>,
    answered: mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

/// An open device.
pub(crate) struct Device {
    pub(crate) queue: wgpu::Queue,
    device: wgpu::Device,
    adapter: String,
    options: Options,
    /// The first thing that has gone wrong.
    fault: Arc<OnceLock<String>>,
    product: Product,
    pipelines: Mutex<BTreeMap<usize, Arc<Pipelines>>>,
    /// The last used comes last.
    models: Mutex<Vec<(Digest, Arc<Model>)>>,
    idle: Mutex<Vec<Lane>>,
    /// Nanoseconds that it has been waited for.
    busy: AtomicU64,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.adapter)
    }
}

impl Device {
    /// Opens a device, and compares it with the scalar reference.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(adapter: &Adapter, options: Options) -> Result<Self, OpenError> {
        let name = adapter.to_string();
        let has_native = adapter.raw.features().contains(wgpu::Features::SHADER_INT64);
        let native = if has_native { wgpu::Features::SHADER_INT64 } else { wgpu::Features::empty() };
        let request = adapter.raw.request_device(&wgpu::DeviceDescriptor {
            label: Some("forge"),
            required_features: native,
            required_limits: adapter.raw.limits(),
            ..wgpu::DeviceDescriptor::default()
        });
        let opened = pollster::block_on(request);
        let (device, queue) = opened
            .map_err(|error| OpenError::Unusable { adapter: name.clone(), reason: error.to_string() })?;
        let fault: Arc<OnceLock<String>> = Arc::default();
        let (lost, failed) = (Arc::clone(&fault), Arc::clone(&fault));
        device.set_device_lost_callback(move |_, reason| {
            let _ = lost.set(format!("the device is lost: {reason}"));
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let _ = failed.set(one_line(&error.to_string()));
        }));
        let mut device = Self {
            queue,
            device,
            adapter: name,
            options,
            fault,
            product: Product::Pairs,
            pipelines: Mutex::default(),
            models: Mutex::default(),
            idle: Mutex::default(),
            busy: AtomicU64::new(0),
        };
        device.choose(has_native, adapter.kind == AdapterKind::Software)?;
        Ok(device)
    }

    /// Compiles the shaders in the way that is faster here. A driver on the processor gains nothing from the other.
    fn choose(&mut self, has_native: bool, is_software: bool) -> Result<(), OpenError> {
        self.product = self.options.product.unwrap_or(Product::Pairs);
        let pairs = self.pipelines(self_test::COMPONENTS)?;
        if self.options.product.is_some() || !has_native || is_software {
            return Ok(());
        }
        self.product = Product::Native;
        let native = self.compiled(self_test::COMPONENTS)?;
        let rate =
            |pipelines: &Pipelines| self_test::rate(self, pipelines).map_err(|error| self.unusable(&error));
        if rate(&native)? > WORTH * rate(&pairs)? {
            lock(&self.pipelines).insert(self_test::COMPONENTS, native);
        } else {
            self.product = Product::Pairs;
        }
        Ok(())
    }

    fn unusable(&self, error: &ExecuteError) -> OpenError {
        OpenError::Unusable { adapter: self.adapter.clone(), reason: error.to_string() }
    }

    /// What has gone wrong.
    ///
    /// # Errors
    /// [`ExecuteError::Device`], for good once something has.
    pub(crate) fn check(&self) -> Result<(), ExecuteError> {
        self.fault
            .get()
            .map_or(Ok(()), |fault| Err(ExecuteError::Device(format!("{}: {fault}", self.adapter))))
    }

    /// A buffer of so many bytes, zeros.
    pub(crate) fn buffer(&self, bytes: usize, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let size = bytes as u64;
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Binds buffers to a pipeline, in the order of their numbers.
    pub(crate) fn bind(
        &self,
        pipeline: &wgpu::ComputePipeline,
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let resources = buffers.iter().map(|buffer| buffer.as_entire_binding());
        let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
        let entries: Vec<_> = (0..).zip(resources).map(entry).collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    /// An empty list of commands.
    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Has commands executed.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.queue.submit([encoder.finish()])
    }

    /// Waits until commands have been executed.
    ///
    /// # Errors
    /// [`ExecuteError::Device`].
    pub(crate) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), ExecuteError> {
        let patience = self.options.patience;
        let waiting = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(patience) };
        let start = Instant::now();
        let waited = self.device.poll(waiting);
        self.busy.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.check()?;
        if let Err(error) = waited {
            let _ = self.fault.set(format!("no answer within {patience:?}: {error}"));
        }
        self.check()
    }

    /// Asks to read a buffer once the commands that have been submitted are executed.
    pub(crate) fn map<'a>(&self, slice: wgpu::BufferSlice<'a>) -> Mapping<'a> {
        let (answer, answered) = mpsc::channel();
        slice.map_async(wgpu::MapMode::Read, move |result| {
            let _ = answer.send(result);
        });
        Mapping { slice, answered }
    }

    /// Reads a buffer, once its commands have been waited for.
    ///
    /// # Errors
    /// [`ExecuteError::Device`].
    pub(crate) fn read(&self, mapping: &Mapping<'_>) -> Result<wgpu::BufferView, ExecuteError> {
        // The answer may come by another thread that waits for this device, hence a little later.
        let reason = match mapping.answered.recv_timeout(self.options.patience) {
            Ok(Ok(())) => match mapping.slice.get_mapped_range() {
                Ok(view) => return Ok(view),
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let _ = self.fault.set(format!("results cannot be read: {reason}"));
        Err(self.check().expect_err("a fault has been set"))
    }

    /// The compiled shaders for programs of so many components. What is compiled for the first time is compared with the
    /// scalar reference first: a driver may compile one rightly and another wrongly.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn pipelines(&self, components: usize) -> Result<Arc<Pipelines>, OpenError> {
        // Held while it compiles, so that nothing is compiled twice.
        let mut compiled = lock(&self.pipelines);
        if let Some(pipelines) = compiled.get(&components) {
            return Ok(Arc::clone(pipelines));
        }
        let pipelines = self.compiled(components)?;
        compiled.insert(components, Arc::clone(&pipelines));
        Ok(pipelines)
    }

    /// Compiles the shaders, and compares them with the scalar reference.
    fn compiled(&self, components: usize) -> Result<Arc<Pipelines>, OpenError> {
        let pipelines = self.variant(components, self.options.miscompile);
        let tested = self.check().and_then(|()| self_test::difference(self, &pipelines, components));
        let Some(reason) = tested.map_err(|error| self.unusable(&error))? else {
            return Ok(Arc::new(pipelines));
        };
        let _ = self.fault.set(reason.clone());
        Err(OpenError::WrongResults { adapter: self.adapter.clone(), reason })
    }

    /// The shaders compiled from source that `edit` has changed, and not compared with anything.
    pub(crate) fn variant(&self, components: usize, edit: impl Fn(String) -> String) -> Pipelines {
        Pipelines::compile(&self.device, components, self.product, edit)
    }

    /// How long this device has been waited for.
    pub(crate) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Ordering::Relaxed))
    }

    /// A program on the device; brought there if it is not.
    pub(crate) fn model(&self, program: &Program) -> Arc<Model> {
        let digest = program.digest();
        let mut models = lock(&self.models);
        let found = models.iter().position(|(kept, _)| *kept == digest);
        let entry = match found {
            Some(at) => models.remove(at),
            None => (digest, Arc::new(Model::upload(self, program))),
        };
        let model = Arc::clone(&entry.1);
        models.push(entry);
        if models.len() > KEPT {
            models.remove(0);
        }
        model
    }

    /// Buffers that nobody uses, for so many shards.
    pub(crate) fn lane(&self, shards: usize) -> Lane {
        let mut idle = lock(&self.idle);
        let fitting = idle.iter().position(|lane| lane.shards() >= shards);
        let found = fitting.map(|at| idle.swap_remove(at));
        // One that is too small makes room.
        if found.is_none() {
            idle.pop();
        }
        drop(idle);
        found.unwrap_or_else(|| Lane::new(self, shards))
    }

    /// Gives buffers back.
    pub(crate) fn give_back(&self, lane: Lane) {
        lock(&self.idle).push(lane);
    }

    /// Loses the device, as if its driver had crashed.
    #[cfg(test)]
    pub(crate) fn lose(&self) {
        self.device.destroy();
    }
}

/// What drivers say comes in paragraphs; logs and records hold lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::list_adapters;

    #[test]
    fn the_faster_way_to_make_products_is_taken_and_either_is_right() {
        let adapter = list_adapters().into_iter().next();
        forge_harness::gpu::is_there(adapter.is_some());
        let Some(adapter) = adapter else { return };
        let mut device = Device::open(&adapter, Options::default()).unwrap();
        let has_native = adapter.raw.features().contains(wgpu::Features::SHADER_INT64);
        device.choose(has_native, false).unwrap();
        let pipelines = device.pipelines(self_test::COMPONENTS).unwrap();
        assert_eq!(self_test::difference(&device, &pipelines, self_test::COMPONENTS), Ok(None));
        let others = device.pipelines(self_test::COMPONENTS + 1).unwrap();
        assert_eq!(self_test::difference(&device, &others, self_test::COMPONENTS + 1), Ok(None));
    }
}
