//! Who held what, when: from `memtide fm watch --json` to an SVG and some lines of text.

use std::{fmt::Write, fs, path::Path};

use serde::Deserialize;

use crate::shell::{self, Failure};

/// A line of `memtide fm watch --json`, as far as it is drawn.
#[derive(Deserialize)]
struct Line {
    ms: u64,
    device: Device,
}

#[derive(Deserialize)]
struct Device {
    capacity: u64,
    free: u64,
    hosts: Vec<Host>,
}

#[derive(Deserialize)]
struct Host {
    name: Option<String>,
    held: u64,
    pending: u64,
}

/// At one time: bytes of each band, from below.
struct Moment {
    ms: u64,
    bands: Vec<u64>,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 30.0;
const COLOURS: [&str; 6] = ["#4878a8", "#e08f3c", "#6aa56a", "#b05a7a", "#8a6fb0", "#7a7a7a"];

/// Draws what was watched.
pub fn draw(watched: &Path, picture: &Path) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(&shell::read(watched)?).into_owned();
    // The last line may be cut: whoever wrote it was ended.
    let lines: Vec<Line> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
        return Err(Failure::wrong("nothing was watched"));
    };
    let names = names(&first.device);
    let capacity = first.device.capacity.max(1);
    let end = last.ms + 500;
    let moments: Vec<Moment> = lines.iter().map(moment).collect();
    println!("\n# who held what");
    print!("{}", as_text(&moments, &names, end));
    let path = picture.to_owned();
    fs::write(picture, as_svg(&moments, &names, capacity, end))
        .map_err(|source| Failure::File { path, source })?;
    println!("# the picture is {}", picture.display());
    Ok(())
}

fn names(device: &Device) -> Vec<String> {
    let host = |(number, host): (usize, &Host)| {
        host.name.clone().unwrap_or_else(|| format!("host {number}"))
    };
    device.hosts.iter().enumerate().map(host).chain(["on its way".to_owned()]).collect()
}

/// Each host's, then what is neither anybody's nor free: offered, promised, or being overwritten.
fn moment(line: &Line) -> Moment {
    let held: Vec<u64> = line.device.hosts.iter().map(|host| host.held).collect();
    let offered: u64 = line.device.hosts.iter().map(|host| host.pending).sum();
    let rest = line.device.capacity.saturating_sub(line.device.free + held.iter().sum::<u64>());
    Moment { ms: line.ms, bands: held.into_iter().chain([rest.max(offered)]).collect() }
}

/// The state at so many times that they fit on a screen.
fn as_text(moments: &[Moment], names: &[String], end: u64) -> String {
    const ROWS: u64 = 20;
    let mut text = format!("{:>8}", "time");
    for name in names {
        let _ = write!(text, "{name:>14}");
    }
    text.push('\n');
    for row in 0..=ROWS {
        let at = end * row / ROWS;
        let Some(now) = moments.iter().rev().find(|moment| moment.ms <= at) else { continue };
        let _ = write!(text, "{:>6.1} s", at as f64 / 1000.0);
        for band in &now.bands {
            let _ = write!(text, "{:>10} MiB", band >> 20);
        }
        text.push('\n');
    }
    text
}

/// Bands on each other, in steps.
fn as_svg(moments: &[Moment], names: &[String], capacity: u64, end: u64) -> String {
    let x = |ms: u64| LEFT + ms as f64 / end.max(1) as f64 * WIDTH;
    let y = |bytes: u64| TOP + HEIGHT - bytes as f64 / capacity as f64 * HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"18\">Who holds the device's memory</text>\n",
        LEFT + WIDTH + 30.0,
        TOP + HEIGHT + 70.0
    );
    for (band, name) in names.iter().enumerate() {
        let below = |moment: &Moment| moment.bands.iter().take(band).sum::<u64>();
        let (mut upper, mut lower) = (String::new(), Vec::new());
        for (number, moment) in moments.iter().enumerate() {
            let until = moments.get(number + 1).map_or(end, |next| next.ms);
            let (low, high) = (below(moment), below(moment) + moment.bands[band]);
            for ms in [moment.ms, until] {
                let _ = write!(upper, "{:.1},{:.1} ", x(ms), y(high));
                lower.push(format!("{:.1},{:.1}", x(ms), y(low)));
            }
        }
        lower.reverse();
        let colour = COLOURS[band % COLOURS.len()];
        let _ = writeln!(svg, "<polygon fill=\"{colour}\" points=\"{upper}{}\"/>", lower.join(" "));
        let at = LEFT + band as f64 * 130.0;
        let bottom = TOP + HEIGHT + 45.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{at}\" y=\"{bottom}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            at + 18.0,
            bottom + 11.0,
            escaped(name)
        );
    }
    for quarter in 0..=4 {
        let bytes = capacity / 4 * quarter;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} MiB</text>",
            LEFT - 6.0,
            y(bytes) + 4.0,
            bytes >> 20
        );
        let ms = end / 4 * quarter;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.1} s</text>",
            x(ms),
            TOP + HEIGHT + 18.0,
            ms as f64 / 1000.0
        );
    }
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" \
         stroke=\"black\"/>\n</svg>"
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_all_of_the_capacity() {
        let line = r#"{"ms":7,"device":{"name":"x","capacity":100,"free":20,
            "hosts":[{"name":"h1","held":30,"pending":10,"x":1},{"name":null,"held":5,"pending":0}]}}"#;
        let line: Line = serde_json::from_str(&line.replace('\n', "")).unwrap();
        assert_eq!(names(&line.device), ["h1", "host 1", "on its way"]);
        let moment = moment(&line);
        assert_eq!(moment.bands, [30, 5, 45]);
        assert_eq!(moment.bands.iter().sum::<u64>() + line.device.free, line.device.capacity);
    }

    #[test]
    fn text_and_picture_show_each_band() {
        let moments =
            [Moment { ms: 0, bands: vec![0, 0] }, Moment { ms: 500, bands: vec![64 << 20, 0] }];
        let names = ["a<b".to_owned(), "on its way".to_owned()];
        let text = as_text(&moments, &names, 1000);
        assert_eq!(text.lines().count(), 22);
        assert!(text.lines().last().unwrap().contains("64 MiB"), "{text}");
        let svg = as_svg(&moments, &names, 128 << 20, 1000);
        assert_eq!(svg.matches("<polygon").count(), 2);
        // Half of the capacity is half of the height.
        assert!(svg.contains("520.0,210.0") && svg.contains("a&lt;b"), "{svg}");
    }
}
