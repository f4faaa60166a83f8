//! One HTML page that needs nothing else: claim, plots, table.

use core::fmt::Write;

use crate::{outcome::Outcome, plot::Plot, sweep::Sweep};

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}\
    table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ccc;\
    text-align:left}blockquote{border-left:4px solid #888;margin-left:0;padding-left:1em}\
    svg{max-width:100%;height:auto}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page of an outcome.
#[must_use]
pub fn page(outcome: &Outcome, plots: &[Plot]) -> String {
    let Outcome { title, claim, seed, .. } = outcome;
    write_page(title, claim, *seed, &outcome.table(), plots)
}

/// The page of a sweep.
#[must_use]
pub fn page_of_sweep(sweep: &Sweep, plots: &[Plot]) -> String {
    let Sweep { title, claim, seed, .. } = sweep;
    write_page(title, claim, *seed, &sweep.table(), plots)
}

fn write_page(
    title: &str,
    claim: &str,
    seed: u64,
    table: &[Vec<String>],
    plots: &[Plot],
) -> String {
    let title = escaped(title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<h1>{title}</h1>\n<h2>Claimed</h2>\n<blockquote>{}</blockquote>\n\
         <h2>Measured</h2>\n<p>memtide {}, seed {}.</p>\n",
        escaped(claim.trim()),
        env!("CARGO_PKG_VERSION"),
        seed,
    );
    for plot in plots {
        html.push_str(&plot.svg);
        html.push('\n');
    }
    html.push_str("<table>\n");
    for (number, row) in table.iter().enumerate() {
        let tag = if number == 0 { "th" } else { "td" };
        html.push_str("<tr>");
        for cell in row {
            write!(html, "<{tag}>{}</{tag}>", escaped(cell)).expect("a String takes everything");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n</html>\n");
    html
}
