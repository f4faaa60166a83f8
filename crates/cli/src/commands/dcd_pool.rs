//! `memtide dcd-pool`.

use std::process::ExitCode;

use memtide_proto::control::{DcdAnswer, DcdStatus};

use crate::{arguments::DcdPool, ask, failure::Failure, output};

pub fn dcd_pool(options: DcdPool) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    if let Some((node, what)) = options.accept {
        ask::accept(&socket, node, what)?;
    }
    let devices = ask::devices(&socket)?;
    if options.json {
        output::json(&devices)?;
    } else {
        output::text(&text(&devices))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(devices: &[DcdStatus]) -> String {
    if devices.is_empty() {
        return "no nodes of a device's dynamic capacity\n".to_owned();
    }
    let heading = ["NODE", "DEVICE", "HOST", "ACCEPTS", "ACCEPTED", "USED", "RELEASED", "LOST"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(devices.iter().map(|device| {
        vec![
            device.node.clone(),
            device.device.clone().unwrap_or_else(|| "-".to_owned()),
            device.host.to_string(),
            device.accept.clone(),
            device.accepted.to_string(),
            device.used.to_string(),
            device.released.to_string(),
            device.lost.to_string(),
        ]
    }));
    let remarks: String = devices.iter().map(remarks).collect();
    output::table(&rows) + &remarks
}

/// What does not fit into a table.
fn remarks(device: &DcdStatus) -> String {
    let mut text = String::new();
    if let Some(why) = &device.away {
        text += &format!("{}: {} is away: {why}\n", device.node, device.fabric);
    }
    if let Some(answer) = &device.answer {
        text += &answered(&device.node, answer);
    }
    text
}

fn answered(node: &str, answer: &DcdAnswer) -> String {
    let DcdAnswer { asked, released, remaining, holders } = answer;
    let mut text = format!("{node}: asked for {asked}, gave {released}");
    if remaining.0 == 0 {
        return text + "\n";
    }
    text += &format!(", {remaining} stay for now:\n");
    for holder in holders {
        text += &format!(
            "  {} {} (pid {}): {}\n",
            holder.bytes, holder.name, holder.pid, holder.reason
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use memtide_proto::control::Holder;
    use memtide_units::{ByteSize, HoldReason, ImageId};

    use super::*;

    fn device() -> DcdStatus {
        DcdStatus {
            node: "dcd0".to_owned(),
            fabric: "unix:/run/fabric.sock".to_owned(),
            host: 1,
            away: None,
            device: Some("d".to_owned()),
            serial: Some(7),
            accept: "all".to_owned(),
            accepted: ByteSize(100 << 20),
            used: ByteSize(3 << 20),
            refused: ByteSize(0),
            released: ByteSize(97 << 20),
            lost: ByteSize(0),
            answer: None,
            extents: Vec::new(),
        }
    }

    #[test]
    fn a_partial_answer_names_who_holds_the_rest() {
        let holder = Holder {
            tenant: "db".to_owned(),
            image: ImageId(1),
            pid: 42,
            name: "redis".to_owned(),
            bytes: ByteSize(3 << 20),
            reason: HoldReason::MemoryLock,
        };
        let answer = DcdAnswer {
            asked: ByteSize(100 << 20),
            released: ByteSize(97 << 20),
            remaining: ByteSize(3 << 20),
            holders: vec![holder],
        };
        let text = text(&[DcdStatus { answer: Some(answer), ..device() }]);
        assert!(text.contains("asked for 100MiB, gave 97MiB, 3MiB stay for now"), "{text}");
        assert!(text.contains("3MiB redis (pid 42)"), "{text}");
    }

    #[test]
    fn a_fabric_that_is_away_is_said_with_the_reason() {
        let away = Some("cannot connect".to_owned());
        let text = text(&[DcdStatus { away, ..device() }]);
        assert!(text.contains("dcd0: unix:/run/fabric.sock is away: cannot connect"), "{text}");
    }
}
