//! An open device: buffers, command submission and readback. Records the first fault of the device,
//! and reports it on every later call: a device that has failed once is not used again.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use forge_kernel::backend::ExecutionError;

use crate::{adapter::Adapter, open_error::OpenError};

/// A buffer whose contents have been requested by [`GpuDevice::request_readback`].
pub(crate) struct PendingReadback<'a> {
    slice: wgpu::BufferSlice<'a>,
    completion: mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

/// An open device with its queue.
pub(crate) struct GpuDevice {
    pub(crate) wgpu_device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// Name of the adapter with its driver.
    adapter_name: String,
    /// Longest time that the device may take to complete a submission.
    response_timeout: Duration,
    /// The first fault of the device.
    fault: Arc<OnceLock<String>>,
    /// Total time that calls have waited for submissions, in nanoseconds.
    waited_nanoseconds: AtomicU64,
}

impl fmt::Debug for GpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuDevice({})", self.adapter_name)
    }
}

impl GpuDevice {
    /// Opens the device of an adapter, with 64-bit integers if the adapter supports them.
    ///
    /// # Errors
    /// [`OpenError::Unusable`].
    pub(crate) fn open(adapter: &Adapter, response_timeout: Duration) -> Result<Self, OpenError> {
        let adapter_name = adapter.to_string();
        let request = adapter.wgpu_adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("forge"),
            required_features: adapter.wgpu_adapter.features() & wgpu::Features::SHADER_INT64,
            required_limits: adapter.wgpu_adapter.limits(),
            ..wgpu::DeviceDescriptor::default()
        });
        let (wgpu_device, queue) = pollster::block_on(request).map_err(|error| OpenError::Unusable {
            adapter: adapter_name.clone(),
            reason: error.to_string(),
        })?;
        let fault: Arc<OnceLock<String>> = Arc::default();
        let (device_lost, uncaptured_error) = (Arc::clone(&fault), Arc::clone(&fault));
        wgpu_device.set_device_lost_callback(move |_, reason| {
            let _ = device_lost.set(format!("the device is lost: {reason}"));
        });
        wgpu_device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let _ = uncaptured_error.set(join_lines(&error.to_string()));
        }));
        let waited_nanoseconds = AtomicU64::new(0);
        Ok(Self { wgpu_device, queue, adapter_name, response_timeout, fault, waited_nanoseconds })
    }

    /// Name of the adapter with its driver.
    pub(crate) fn adapter_name(&self) -> &str {
        &self.adapter_name
    }

    /// Whether shaders may use 64-bit integers.
    pub(crate) fn has_int64(&self) -> bool {
        self.wgpu_device.features().contains(wgpu::Features::SHADER_INT64)
    }

    /// Records a fault, unless one has been recorded before.
    pub(crate) fn set_fault(&self, fault: String) {
        let _ = self.fault.set(fault);
    }

    /// Reports the first fault of the device.
    ///
    /// # Errors
    /// [`ExecutionError::Device`], on every call after the first fault.
    pub(crate) fn check(&self) -> Result<(), ExecutionError> {
        self.fault
            .get()
            .map_or(Ok(()), |fault| Err(ExecutionError::Device(format!("{}: {fault}", self.adapter_name))))
    }

    /// Allocates a buffer of zeros.
    pub(crate) fn create_buffer(&self, bytes: usize, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.wgpu_device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes as u64,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Binds buffers to bindings 0, 1, … of a pipeline.
    pub(crate) fn bind_buffers(
        &self,
        pipeline: &wgpu::ComputePipeline,
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let resources = buffers.iter().map(|buffer| buffer.as_entire_binding());
        let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
        let entries: Vec<_> = (0..).zip(resources).map(entry).collect();
        self.wgpu_device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    /// An empty command list.
    pub(crate) fn create_encoder(&self) -> wgpu::CommandEncoder {
        self.wgpu_device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Queues commands for execution.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.queue.submit([encoder.finish()])
    }

    /// Blocks until a submission has completed. A submission that exceeds the response timeout is a
    /// fault.
    ///
    /// # Errors
    /// [`ExecutionError::Device`].
    pub(crate) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), ExecutionError> {
        let timeout = self.response_timeout;
        let start = Instant::now();
        let polled = self
            .wgpu_device
            .poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(timeout) });
        self.waited_nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.check()?;
        if let Err(error) = polled {
            self.set_fault(format!("no response within {timeout:?}: {error}"));
        }
        self.check()
    }

    /// Total time that calls have spent in [`GpuDevice::wait`].
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_nanoseconds.load(Ordering::Relaxed))
    }

    /// Requests that a buffer be mapped for reading once all submissions so far have completed.
    pub(crate) fn request_readback<'a>(&self, slice: wgpu::BufferSlice<'a>) -> PendingReadback<'a> {
        let (sender, completion) = mpsc::channel();
        slice.map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result);
        });
        PendingReadback { slice, completion }
    }

    /// The contents of a requested buffer. Call [`GpuDevice::wait`] for the submissions that write
    /// it first.
    ///
    /// # Errors
    /// [`ExecutionError::Device`].
    pub(crate) fn read(&self, readback: &PendingReadback<'_>) -> Result<wgpu::BufferView, ExecutionError> {
        // Another thread that polls this device may run the callback, so it can complete slightly
        // after `wait` returns.
        let reason = match readback.completion.recv_timeout(self.response_timeout) {
            Ok(Ok(())) => match readback.slice.get_mapped_range() {
                Ok(view) => return Ok(view),
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.set_fault(format!("reading results back failed: {reason}"));
        Err(self.check().expect_err("a fault was recorded above"))
    }
}

/// Joins the paragraphs of a driver's message, because a log record is one line.
fn join_lines(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
