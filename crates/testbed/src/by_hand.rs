//! CXL regions by plain writes to sysfs, as an expert would do it by hand.
//!
//! For tests of something else than making regions, and as the thing that memtide's own way of
//! doing it is compared with. The order of the writes is the kernel's
//! (`Documentation/ABI/testing/sysfs-bus-cxl`).

use std::time::Duration;

use memtide_units::ByteSize;

use crate::{Error, Guest};

/// Probing is asynchronous, and may take as long as a busy computer likes.
const PROBED: Duration = Duration::from_secs(60);

const FUNCTIONS: &str = r#"
set -e
cd /sys/bus/cxl/devices
# The first decoder of the endpoint of the device with this serial number.
decoder() {
    for memory in mem*; do
        [ "$(cat $memory/serial)" = "$1" ] || continue
        for endpoint in endpoint*; do
            [ "$(readlink -f $endpoint/uport)" = "$(readlink -f $memory)" ] || continue
            echo decoder${endpoint#endpoint}.0
            return
        done
    done
    echo "no endpoint has serial number $1" >&2
    return 1
}
"#;

const CREATE: &str = r#"
window=$1 each=$2 granularity=$3
shift 3
root=decoder0.$window
decoders=
for serial; do
    decoders="$decoders $(decoder $serial)"
done
region=$(cat $root/create_ram_region)
echo $region >$root/create_ram_region
echo $granularity >$region/interleave_granularity
echo $# >$region/interleave_ways
for one in $decoders; do
    echo ram >$one/mode
    echo $each >$one/dpa_size
done
echo $((each * $#)) >$region/size
way=0
for one in $decoders; do
    echo $one >$region/target$way
    way=$((way + 1))
done
echo 1 >$region/commit
echo $region >/sys/bus/cxl/drivers/cxl_region/bind
echo $region
"#;

/// Makes a region in a window (from 0), of so much of each device in the order of the interleave,
/// with so many bytes to each in turn. Devices are named by their serial numbers:
/// [`crate::Machine::serial`]. Returns the region's name; when it returns, the region has become a
/// dax device and, where `kmem` is loaded, memory blocks.
///
/// # Errors
/// As [`Guest::sh`]: the step that the kernel refused.
pub fn create_region(
    guest: &Guest,
    window: usize,
    each: ByteSize,
    granularity: u32,
    serials: &[u64],
) -> Result<String, Error> {
    let serials: Vec<_> = serials.iter().map(|serial| format!("{serial:#x}")).collect();
    for serial in &serials {
        guest.wait_until(PROBED, &format!("{FUNCTIONS}\ndecoder {serial}"))?;
    }
    let arguments = format!("set -- {window} {} {granularity} {}", each.0, serials.join(" "));
    let region = guest.sh(&format!("{FUNCTIONS}\n{arguments}\n{CREATE}"))?;
    guest.wait_until(PROBED, &format!("ls -d /sys/bus/cxl/devices/{region}/dax_region*/dax*.*"))?;
    Ok(region)
}

/// Takes a region apart; its memory must be offline.
///
/// # Errors
/// As [`Guest::sh`].
pub fn destroy_region(guest: &Guest, window: usize, region: &str) -> Result<(), Error> {
    let steps = [
        format!("echo {region} >/sys/bus/cxl/drivers/cxl_region/unbind"),
        format!("echo 0 >/sys/bus/cxl/devices/{region}/commit"),
        format!("echo {region} >/sys/bus/cxl/devices/decoder0.{window}/delete_region"),
    ];
    guest.sh(&format!("set -e\n{}", steps.join("\n"))).map(|_| ())
}

/// Writes this to the `state` of every memory block of a node, in order: `online_movable`,
/// `online_kernel`, `offline`. Blocks that are already online, or already offline, stay as they
/// are.
///
/// # Errors
/// As [`Guest::sh`]: the first block that the kernel refused.
pub fn set_blocks(guest: &Guest, node: u32, state: &str) -> Result<(), Error> {
    let script = format!(
        "for block in /sys/devices/system/node/node{node}/memory[0-9]*; do
             grep -qx {} $block/state || echo {state} >$block/state || exit 1
         done",
        if state == "offline" { "offline" } else { "online" },
    );
    guest.sh(&script).map(|_| ())
}
