//! A machine as a value: what QEMU is to emulate, and how the kernel is to be started on it.
//!
//! The builders take what they are given; [`Machine::check`] says what does not fit together, with
//! the field and its value, before QEMU is started. [`crate::Guest::boot`] calls it.

use std::{collections::BTreeSet, path::PathBuf};

use memtide_units::ByteSize;

use crate::{
    MachineError,
    cxl::{HostBridge, Window},
    memory::{self, NumaNode, VirtioMem, mib},
};

/// What the kernel does with memory blocks that appear (`memhp_default_state=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Onlining {
    /// They stay offline until somebody writes to their `state`.
    Offline,
    /// As the kernel's policy decides (`memory_hotplug.online_policy`).
    Online,
    /// Into a kernel zone.
    Kernel,
    /// Into the Movable zone.
    Movable,
}

impl Onlining {
    /// The kernel's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Online => "online",
            Self::Kernel => "online_kernel",
            Self::Movable => "online_movable",
        }
    }
}

/// What a machine's network is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Network {
    /// None.
    None,
    /// QEMU's own, of one guest and this computer.
    User,
}

/// A machine, described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    pub(crate) name: String,
    pub(crate) memory: ByteSize,
    pub(crate) processors: u32,
    pub(crate) nodes: Vec<NumaNode>,
    pub(crate) bridges: Vec<HostBridge>,
    pub(crate) windows: Vec<Window>,
    pub(crate) virtio_mem: Vec<VirtioMem>,
    pub(crate) onlining: Onlining,
    pub(crate) kernel_arguments: Vec<String>,
    pub(crate) modules: Option<Vec<String>>,
    pub(crate) network: Network,
    pub(crate) control: Option<PathBuf>,
}

impl Machine {
    /// A machine with two processors, so much memory, no NUMA and nothing special.
    #[must_use]
    pub fn new(name: &str, memory: ByteSize) -> Self {
        Self {
            name: name.to_owned(),
            memory,
            processors: 2,
            nodes: Vec::new(),
            bridges: Vec::new(),
            windows: Vec::new(),
            virtio_mem: Vec::new(),
            onlining: Onlining::Offline,
            kernel_arguments: Vec::new(),
            modules: None,
            network: Network::None,
            control: None,
        }
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// So many processors, 1 to 16.
    #[must_use]
    pub const fn processors(mut self, count: u32) -> Self {
        self.processors = count;
        self
    }

    /// One more NUMA node; the first one is node 0.
    #[must_use]
    pub fn node(mut self, node: NumaNode) -> Self {
        self.nodes.push(node);
        self
    }

    /// One more CXL host bridge. The kernel gives CXL windows nodes of their own only where
    /// firmware announces nodes: describe one at least.
    #[must_use]
    pub fn host_bridge(mut self, bridge: HostBridge) -> Self {
        self.bridges.push(bridge);
        self
    }

    /// One more CXL window. Windows follow each other in the address space.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.windows.push(window);
        self
    }

    /// One more virtio-mem device.
    #[must_use]
    pub fn virtio_mem(mut self, device: VirtioMem) -> Self {
        self.virtio_mem.push(device);
        self
    }

    /// What happens to memory blocks that appear; nothing unless said.
    #[must_use]
    pub const fn onlining(mut self, onlining: Onlining) -> Self {
        self.onlining = onlining;
        self
    }

    /// A network card (`virtio_net`) in a network of QEMU's own, in which 10.0.2.2 is this computer
    /// and any other address of 10.0.2.0/24 may be the guest's.
    #[must_use]
    pub const fn user_network(mut self) -> Self {
        self.network = Network::User;
        self
    }

    /// One more socket for QMP, at this path, on which QEMU listens: for who plays a part in the
    /// machine besides the test.
    #[must_use]
    pub fn control(mut self, path: impl Into<PathBuf>) -> Self {
        self.control = Some(path.into());
        self
    }

    /// One more word on the kernel's command line, such as `memmap=256M!1G` or `numa=fake=2U`.
    #[must_use]
    pub fn kernel_argument(mut self, word: &str) -> Self {
        self.kernel_arguments.push(word.to_owned());
        self
    }

    /// The modules that are loaded before the first command, instead of those that its hardware
    /// calls for. To leave a CXL device unbound: `["cxl_acpi"]`.
    #[must_use]
    pub fn modules<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.modules = Some(names.into_iter().map(str::to_owned).collect());
        self
    }

    /// The modules that are loaded before the first command.
    #[must_use]
    pub fn loaded_modules(&self) -> Vec<String> {
        if let Some(modules) = &self.modules {
            return modules.clone();
        }
        let mut names = Vec::new();
        if !self.bridges.is_empty() {
            // dax before regions: whoever comes last would otherwise wait for the other.
            names.extend(["device_dax", "kmem", "dax_cxl", "cxl_acpi", "cxl_pci", "cxl_mem"]);
        }
        if !self.virtio_mem.is_empty() {
            names.push("virtio_mem");
        }
        names.into_iter().map(str::to_owned).collect()
    }

    /// The serial number of a CXL device, by which the guest knows it (`memN/serial`): the
    /// devices' numbers in the order of their description, from 1.
    #[must_use]
    pub fn serial(&self, device: &str) -> Option<u64> {
        let mut devices = self.bridges.iter().flat_map(HostBridge::devices).zip(1..);
        devices.find(|(candidate, _)| candidate.name == device).map(|(_, serial)| serial)
    }

    /// Whether it can be built.
    ///
    /// # Errors
    /// What does not fit, with its value.
    pub fn check(&self) -> Result<(), MachineError> {
        memory::size("memory".to_owned(), self.memory, mib(2))?;
        memory::number("processors".to_owned(), self.processors.into(), 1..=16)?;
        memory::number("host bridges".to_owned(), self.bridges.len() as u64, 0..=4)?;
        self.check_names()?;
        self.check_nodes()?;
        self.bridges.iter().try_for_each(HostBridge::check)?;
        for (number, window) in self.windows.iter().enumerate() {
            window.check(number, &self.bridges)?;
        }
        self.virtio_mem.iter().try_for_each(|device| device.check(self.nodes.len()))
    }

    fn check_names(&self) -> Result<(), MachineError> {
        let mut seen = BTreeSet::new();
        let bridges = self.bridges.iter().map(|bridge| &bridge.name);
        let devices = self.bridges.iter().flat_map(HostBridge::devices).map(|device| &device.name);
        let virtio_mem = self.virtio_mem.iter().map(|device| &device.name);
        for name in bridges.chain(devices).chain(virtio_mem) {
            let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            if !letters || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return Err(MachineError::Name { name: name.clone() });
            }
            if !seen.insert(name) {
                return Err(MachineError::NameTwice { name: name.clone() });
            }
        }
        Ok(())
    }

    fn check_nodes(&self) -> Result<(), MachineError> {
        if self.nodes.is_empty() {
            return Ok(());
        }
        let add = |sum: u64, node: &NumaNode| sum.saturating_add(node.memory.0);
        let nodes = ByteSize(self.nodes.iter().fold(0, add));
        if nodes != self.memory {
            return Err(MachineError::NodeSizes { nodes, memory: self.memory });
        }
        let processors = self.processors;
        let most = self.nodes.iter().map(|node| node.processors.end).max().unwrap_or(0);
        for processor in 0..processors.max(most) {
            let has = |node: &&NumaNode| node.processors.contains(&processor);
            let count = self.nodes.iter().filter(has).count();
            if count != 1 || processor >= processors {
                return Err(MachineError::Processors { processor, count, processors });
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            if let Some(distance) = node.distance {
                let field = format!("distance of node {number}");
                memory::number(field, distance.into(), 11..=254)?;
            }
        }
        Ok(())
    }

    /// Whether firmware has an HMAT: all nodes with memory say how fast they are.
    pub(crate) fn has_hmat(&self) -> bool {
        let mut with_memory = self.nodes.iter().filter(|node| node.memory.0 > 0).peekable();
        with_memory.peek().is_some() && with_memory.all(|node| node.access.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CxlDevice, RootPort, gib, machines};

    fn cxl() -> Machine {
        Machine::new("m", gib(2))
            .host_bridge(HostBridge::with("hb0", CxlDevice::new("mem0", gib(1))))
            .window(Window::new(["hb0"], gib(4)))
    }

    fn refusal(machine: &Machine) -> String {
        machine.check().expect_err("does not fit").to_string()
    }

    #[test]
    fn the_named_machines_fit_together() {
        for machine in machines::all() {
            machine.check().unwrap_or_else(|error| panic!("{}: {error}", machine.name()));
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_value() {
        let window = cxl().window(Window::new(["hb1"], gib(1)));
        assert_eq!(
            refusal(&window),
            "window 1 leads to host bridge \"hb1\"; the machine has no such bridge"
        );
        let odd = cxl().window(Window::new(["hb0"], mib(100)));
        assert_eq!(
            refusal(&odd),
            "size of window 1 is 100MiB; expected a multiple of 256MiB, and more than 0"
        );
        let twice = cxl().virtio_mem(VirtioMem::new("mem0", 0, gib(1)));
        assert_eq!(
            refusal(&twice),
            "two parts of the machine are called \"mem0\"; expected a name for each"
        );
        let three = cxl().window(Window::new(["hb0", "hb0", "hb0"], gib(1)));
        assert_eq!(refusal(&three), "window 1 has 3 targets; expected 1, 2, 4, 8 or 16");
        let comma = Machine::new("m", gib(1)).virtio_mem(VirtioMem::new("a,b", 0, gib(1)));
        assert!(refusal(&comma).starts_with("name is \"a,b\""));
        let dynamic = CxlDevice::new("d", gib(1)).dynamic(mib(256), 2);
        let dynamic = cxl().host_bridge(HostBridge::new("hb1", [RootPort::Device(dynamic)]));
        assert!(refusal(&dynamic).contains("dynamic capacity of d is 256MiB"));
    }

    #[test]
    fn nodes_add_up_and_each_processor_has_one() {
        let near = NumaNode::near(0..2, gib(2));
        let fits = Machine::new("m", gib(3)).node(near.clone()).node(NumaNode::far(gib(1)));
        assert_eq!(fits.check(), Ok(()));
        let short = Machine::new("m", gib(4)).node(near.clone()).node(NumaNode::far(gib(1)));
        assert_eq!(refusal(&short), "the nodes have 3GiB of memory; expected the machine's 4GiB");
        let alone = Machine::new("m", gib(2)).node(NumaNode::near(0..1, gib(2)));
        assert!(refusal(&alone).starts_with("processor 1 is in 0 nodes"));
        let more = Machine::new("m", gib(2)).node(NumaNode::near(0..3, gib(2)));
        assert!(refusal(&more).starts_with("processor 2 is in 1 nodes"));
        let lost = Machine::new("m", gib(2)).node(near).virtio_mem(VirtioMem::new("v", 1, gib(1)));
        assert_eq!(refusal(&lost), "virtio-mem v is on node 1; the machine has 1 nodes");
    }

    #[test]
    fn modules_are_those_of_the_hardware_unless_said() {
        assert!(Machine::new("m", gib(1)).loaded_modules().is_empty());
        assert!(cxl().loaded_modules().contains(&"cxl_pci".to_owned()));
        assert_eq!(cxl().modules(["cxl_acpi"]).loaded_modules(), ["cxl_acpi"]);
    }
}
