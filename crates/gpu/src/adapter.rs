//! Lists the adapters of this machine by name and driver. Does not open them, and so cannot tell
//! whether their results are correct: `self_test` does.

use std::fmt;

/// A GPU that can run compute shaders, as one of its drivers exposes it.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Position in [`list_adapters`], from 0. The backend `gpu-<index>` executes on this adapter.
    pub index: usize,
    /// Name of the device, as reported by its driver.
    pub name: String,
    /// Name and version of the driver.
    pub driver: String,
    /// Class of the device.
    pub kind: AdapterKind,
    pub(crate) wgpu_adapter: wgpu::Adapter,
}

/// Class of an adapter. The order is the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU of a virtual machine.
    Virtual,
    /// A GPU that shares the memory of the CPU.
    Integrated,
    /// A device of a class that the driver does not report.
    Other,
    /// A driver that executes shaders on the CPU, such as llvmpipe.
    Software,
}

impl AdapterKind {
    /// Lower-case name, as shown in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Virtual => "virtual",
            Self::Integrated => "integrated",
            Self::Other => "other",
            Self::Software => "software",
        }
    }
}

/// Name of the device, with its driver in parentheses.
impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.driver)
    }
}

/// The Vulkan adapters of this machine, in the order of [`AdapterKind`]; empty if Vulkan is not
/// installed.
pub fn list_adapters() -> Vec<Adapter> {
    // Without validation layers: they are slow, and only of use while the shaders are being
    // changed.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let wgpu_adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let mut adapters: Vec<_> = wgpu_adapters.into_iter().map(describe_adapter).collect();
    adapters.sort_by_key(|adapter| adapter.kind);
    for (index, adapter) in adapters.iter_mut().enumerate() {
        adapter.index = index;
    }
    adapters
}

/// Leaves `index` at 0.
fn describe_adapter(wgpu_adapter: wgpu::Adapter) -> Adapter {
    let info = wgpu_adapter.get_info();
    let driver = [info.driver.as_str(), info.driver_info.as_str()];
    let driver: Vec<_> = driver.into_iter().filter(|part| !part.is_empty()).collect();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::Other => AdapterKind::Other,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
    };
    Adapter { index: 0, name: info.name, driver: driver.join(" "), kind, wgpu_adapter }
}
