//! Files of which a capture has a part only.

use super::white_list::{BOOT_PARAMS, CMDLINE, CPUINFO, IOMEM};
use crate::memory_groups::{E820_ENTRIES_AT, E820_ENTRY_BYTES, E820_TABLE_AT};

/// What of a file goes out.
type Mask = fn(&[u8]) -> Vec<u8>;

/// The files, each with its mask.
pub(super) const ALL: [(&str, Mask); 4] = [
    (IOMEM, |bytes| of_text(bytes, iomem)),
    (CMDLINE, |bytes| of_text(bytes, cmdline)),
    (CPUINFO, |bytes| of_text(bytes, cpuinfo)),
    (BOOT_PARAMS, boot_params),
];

fn of_text(bytes: &[u8], mask: fn(&str) -> String) -> Vec<u8> {
    mask(&String::from_utf8_lossy(bytes)).into_bytes()
}

/// Options of the kernel that change what memory there is, or how it comes online; others can
/// hold passwords (`rd.luks.key=`) and names.
const OPTIONS: [&str; 13] = [
    "cxl_core.",
    "dax_hmem.",
    "efi",
    "kernelcore",
    "mem",
    "memhp_default_state",
    "memmap",
    "memory_hotplug.",
    "movable_node",
    "movablecore",
    "nokaslr",
    "numa",
    "virtio_mem.",
];

/// /proc/iomem without the lines that tell where the kernel lies. What hangs below them, nothing
/// does.
fn iomem(text: &str) -> String {
    let is_kernel =
        |line: &str| line.split_once(" : ").is_some_and(|(_, name)| name.starts_with("Kernel "));
    let kept = text.lines().filter(|line| !is_kernel(line));
    kept.map(|line| format!("{line}\n")).collect()
}

/// The options about memory of /proc/cmdline, in their order. A module's name stands
/// for all of its options: `memory_hotplug.` for `memory_hotplug.online_policy`.
fn cmdline(text: &str) -> String {
    let is_ours = |word: &&str| {
        let name = word.split_once('=').map_or(*word, |(name, _)| name).replace('-', "_");
        OPTIONS.iter().any(|option| match option.ends_with('.') {
            true => name.starts_with(option),
            false => name == *option,
        })
    };
    let kept: Vec<&str> = text.split_ascii_whitespace().filter(is_ours).collect();
    format!("{}\n", kept.join(" "))
}

/// Firmware's map of memory, and zeroes for the rest: signatures of disks are there
/// (`edd_mbr_sig`), and where the kernel lies.
fn boot_params(bytes: &[u8]) -> Vec<u8> {
    let count = usize::from(bytes.get(E820_ENTRIES_AT).copied().unwrap_or(0));
    let table = E820_TABLE_AT..E820_TABLE_AT + count * E820_ENTRY_BYTES;
    let is_kept = |at: usize| at == E820_ENTRIES_AT || table.contains(&at);
    bytes.iter().enumerate().map(|(at, &byte)| if is_kept(at) { byte } else { 0 }).collect()
}

/// How many bits addresses have, once: all processors have the same.
fn cpuinfo(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("address sizes"));
    line.map(|line| format!("{line}\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_kernel_lies_stays_here() {
        let text = "100000000-13fffffff : System RAM\n  11d000000-11dffffff : Kernel code\n  \
                    120000000-120ffffff : dax0.0\n140000000-14fffffff : Kernel bss\n";
        assert_eq!(
            iomem(text),
            "100000000-13fffffff : System RAM\n  120000000-120ffffff : dax0.0\n"
        );
    }

    #[test]
    fn of_the_command_line_only_memory_goes_out() {
        let text = "root=/dev/sda memmap=512M!1G rd.luks.key=/secret mem=4G \
                    memory_hotplug.online_policy=auto-movable \
                    memhp-default-state=online numa=fake=2 memsecret=x movable_node quiet";
        assert_eq!(
            cmdline(text),
            "memmap=512M!1G mem=4G memory_hotplug.online_policy=auto-movable \
             memhp-default-state=online numa=fake=2 movable_node\n"
        );
    }

    #[test]
    fn of_boot_params_only_the_map_of_memory_goes_out() {
        let mut bytes = vec![0xa5; 4096];
        bytes[E820_ENTRIES_AT] = 2;
        let masked = boot_params(&bytes);
        assert_eq!(masked.len(), 4096);
        let kept: Vec<usize> = (0..4096).filter(|&at| masked[at] != 0).collect();
        let table: Vec<usize> = (E820_TABLE_AT..E820_TABLE_AT + 2 * E820_ENTRY_BYTES).collect();
        assert_eq!(kept, [&[E820_ENTRIES_AT][..], &table].concat());
        assert_eq!(boot_params(&[1, 2, 3]), [0, 0, 0]);
    }

    #[test]
    fn of_processors_only_their_addresses_go_out() {
        let one = "processor\t: 0\nmodel name\t: X\naddress sizes\t: 46 bits physical\n\n";
        assert_eq!(cpuinfo(&one.repeat(2)), "address sizes\t: 46 bits physical\n");
        assert_eq!(cpuinfo("processor : 0\n"), "");
    }
}
