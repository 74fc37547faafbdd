//! An open device: its queue, compiled shaders, programs that were brought to it, and what has gone wrong with it. A
//! device that something has gone wrong with is not used again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use forge_contract::{digest::Digest, program::Program};
use forge_kernel::execute::ExecuteError;

use crate::{adapter::Adapter, batch::Lane, model::Model, self_test, shader};

/// Programs that are kept on the device.
const KEPT: usize = 8;

/// How an adapter is used; tests use it in other ways than anybody else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How long the device may take to answer. Dispatches are cut to be far shorter.
    pub(crate) patience: Duration,
    /// Changes the shaders' source, as a driver would that compiles it wrongly.
    pub(crate) miscompile: fn(String) -> String,
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: Duration::from_secs(60), miscompile: |source| source }
    }
}

/// Why an adapter cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The machine has no adapter, or no driver for it.
    #[error("there is no GPU: no Vulkan driver shows one")]
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
    Wrong {
        /// Name and driver.
        adapter: String,
        /// Where results differ.
        reason: String,
    },
}

/// The two shaders for programs of one number of components.
pub(crate) struct Pipelines {
    pub(crate) execute: wgpu::ComputePipeline,
    pub(crate) collect: wgpu::ComputePipeline,
}

/// An open device.
pub(crate) struct Device {
    pub(crate) queue: wgpu::Queue,
    device: wgpu::Device,
    adapter: String,
    options: Options,
    /// The first thing that has gone wrong.
    fault: Arc<OnceLock<String>>,
    pipelines: Mutex<BTreeMap<usize, Arc<Pipelines>>>,
    /// The last used comes last.
    models: Mutex<Vec<(Digest, Arc<Model>)>>,
    idle: Mutex<Vec<Lane>>,
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
        let request = adapter.raw.request_device(&wgpu::DeviceDescriptor {
            label: Some("forge"),
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
            let _ = failed.set(error.to_string());
        }));
        let device = Self {
            queue,
            device,
            adapter: name,
            options,
            fault,
            pipelines: Mutex::default(),
            models: Mutex::default(),
            idle: Mutex::default(),
        };
        device.pipelines(self_test::COMPONENTS)?;
        Ok(device)
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

    /// Has commands executed, and waits until they are.
    ///
    /// # Errors
    /// [`ExecuteError::Device`].
    pub(crate) fn execute(&self, encoder: wgpu::CommandEncoder) -> Result<(), ExecuteError> {
        let submission_index = Some(self.queue.submit([encoder.finish()]));
        let timeout = Some(self.options.patience);
        let waited = self.device.poll(wgpu::PollType::Wait { submission_index, timeout });
        self.check()?;
        if let Err(error) = waited {
            let _ = self.fault.set(format!("no answer within {:?}: {error}", self.options.patience));
        }
        self.check()
    }

    /// Reads a part of a buffer that commands have filled.
    ///
    /// # Errors
    /// [`ExecuteError::Device`].
    pub(crate) fn map(&self, slice: wgpu::BufferSlice<'_>) -> Result<wgpu::BufferView, ExecuteError> {
        let failed = |reason: String| {
            let _ = self.fault.set(format!("results cannot be read: {reason}"));
        };
        let mapped = Arc::new(OnceLock::new());
        let answer = Arc::clone(&mapped);
        slice.map_async(wgpu::MapMode::Read, move |result| {
            let _ = answer.set(result);
        });
        let timeout = Some(self.options.patience);
        let waited = self.device.poll(wgpu::PollType::Wait { submission_index: None, timeout });
        match (mapped.get(), waited) {
            (Some(Ok(())), _) => {}
            (Some(Err(error)), _) => failed(error.to_string()),
            (None, waited) => failed(format!("no answer: {waited:?}")),
        }
        self.check()?;
        slice.get_mapped_range().map_err(|error| {
            failed(error.to_string());
            self.check().expect_err("a fault has been set")
        })
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
        let compile = |entry_point, source| {
            let source = wgpu::ShaderSource::Wgsl((self.options.miscompile)(source).into());
            let module =
                self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        };
        let pipelines = Arc::new(Pipelines {
            execute: compile("execute", shader::execute(components)),
            collect: compile("collect", shader::collect(components)),
        });
        let adapter = || self.adapter.clone();
        let unusable =
            |error: ExecuteError| OpenError::Unusable { adapter: adapter(), reason: error.to_string() };
        self.check().map_err(unusable)?;
        if let Some(reason) = self_test::difference(self, &pipelines, components).map_err(unusable)? {
            let _ = self.fault.set(reason.clone());
            return Err(OpenError::Wrong { adapter: adapter(), reason });
        }
        compiled.insert(components, Arc::clone(&pipelines));
        Ok(pipelines)
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
