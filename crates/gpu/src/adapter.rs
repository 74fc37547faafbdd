//! The adapters of this machine: what there is, by name and driver. Whether one computes rightly is `self_test`'s business.

use std::fmt;

/// An adapter that compute shaders can run on.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Its place in the list, from 0: the name `gpu-<index>` means it.
    pub index: usize,
    /// Name of the device, as its driver gives it.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// What kind of device it is.
    pub kind: AdapterKind,
    pub(crate) raw: wgpu::Adapter,
}

/// What an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of a virtual machine.
    Virtual,
    /// A part of the processor, with its memory.
    Integrated,
    /// Something else.
    Other,
    /// A driver that executes on the processor.
    Software,
}

impl AdapterKind {
    /// As it is written in lists.
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

/// Name and driver.
impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.driver)
    }
}

/// The adapters of this machine, real devices first; empty where there is no Vulkan.
pub fn list_adapters() -> Vec<Adapter> {
    // No validation layers: they are for whoever changes the shaders, and slow.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let mut adapters: Vec<_> = found.into_iter().map(describe).collect();
    adapters.sort_by_key(|adapter| adapter.kind);
    for (index, adapter) in adapters.iter_mut().enumerate() {
        adapter.index = index;
    }
    adapters
}

fn describe(raw: wgpu::Adapter) -> Adapter {
    let info = raw.get_info();
    let driver = [info.driver.as_str(), info.driver_info.as_str()];
    let driver: Vec<_> = driver.into_iter().filter(|part| !part.is_empty()).collect();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::Other => AdapterKind::Other,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
    };
    Adapter { index: 0, name: info.name, driver: driver.join(" "), kind, raw }
}
