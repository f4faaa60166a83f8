//! The tables that people read, and the one that programs read, as rows of cells.

use std::collections::BTreeMap;

use memtide_units::{ByteSize, PAGE_BYTES};

use super::{
    By, Caches, FragReport, Packing, Peer, ScaleRow, SpeedReport, Spread,
    scale::ScaleFigures,
    speed::{Operation, SpeedRow},
};

/// Cells below a heading.
pub type Rows = Vec<Vec<String>>;

/// The other allocator's figures, by operation.
pub type Peers = BTreeMap<Operation, Peer>;

fn heading(words: &[&str]) -> Rows {
    vec![words.iter().map(|&word| word.to_owned()).collect()]
}

impl SpeedReport {
    /// Nanoseconds: median (least–most). Next to another allocator's, the ratio of the medians and
    /// that of the least: the latter is steadier when other programs run.
    #[must_use]
    pub fn rows(&self, peers: &Peers) -> Rows {
        let mut words =
            vec!["OPERATION", "THREADS", "ORDER", "BY", "CACHES", "TAKE", "GIVE", "PAIR"];
        if !peers.is_empty() {
            words.extend(["PEER TAKE", "PEER GIVE", "PEER PAIR", "RATIO", "OF LEAST"]);
        }
        let mut rows = heading(&words);
        rows.extend(self.rows.iter().map(|row| speed_cells(row, peers.get(&row.operation))));
        rows
    }

    /// All figures, as a table of commas.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = "operation,threads,order,by,caches,take_min,take_median,take_max,\
                        give_min,give_median,give_max,pair_min,pair_median,pair_max\n"
            .to_owned();
        for row in &self.rows {
            let mut cells = name_cells(row);
            for spread in [row.take_ns, row.give_ns, Some(row.pair_ns)] {
                let figure = |figure: fn(Spread) -> f64| {
                    spread.map_or_else(String::new, |spread| format!("{:.3}", figure(spread)))
                };
                cells.extend([figure(|s| s.min), figure(|s| s.median), figure(|s| s.max)]);
            }
            text += &cells.join(",");
            text.push('\n');
        }
        text
    }
}

fn name_cells(row: &SpeedRow) -> Vec<String> {
    vec![
        format!("{:?}", row.operation).to_lowercase(),
        row.threads.to_string(),
        row.order.to_string(),
        match row.by {
            By::Owned => "owned".to_owned(),
            By::Number => "number".to_owned(),
        },
        on_or_off(row.caches).to_owned(),
    ]
}

const fn on_or_off(caches: Caches) -> &'static str {
    match caches {
        Caches::On => "on",
        Caches::Off => "off",
    }
}

fn speed_cells(row: &SpeedRow, peer: Option<&Peer>) -> Vec<String> {
    let some = |spread: Option<Spread>| spread.map_or_else(String::new, |s| s.to_string());
    let mut cells = name_cells(row);
    cells.extend([some(row.take_ns), some(row.give_ns), row.pair_ns.to_string()]);
    let Some(case) = peer.and_then(|peer| peer.case(row.threads, row.order)) else {
        return cells;
    };
    // When repeating, the other program writes the time of a pair into both columns.
    let apart = row.operation != Operation::Repeat;
    let pair = |figure: fn(Spread) -> f64| {
        figure(case.take_ns) + if apart { figure(case.give_ns) } else { 0.0 }
    };
    let [take, give] = [case.take_ns, case.give_ns].map(|spread| format!("{:.2}", spread.median));
    cells.extend(if apart { [take, give] } else { Default::default() });
    cells.push(format!("{:.2}", pair(|s| s.median)));
    cells.push(format!("{:.2}", row.pair_ns.median / pair(|s| s.median)));
    cells.push(format!("{:.2}", row.pair_ns.min / pair(|s| s.min)));
    cells
}

impl FragReport {
    /// A row for each step, and what compaction did before and after them.
    #[must_use]
    pub fn rows(&self, peer: &[Packing]) -> Rows {
        let mut words = vec!["STEP", "FREE FRAMES", "FREE BLOCKS", "POSSIBLE", "MOVES"];
        if !peer.is_empty() {
            words.extend(["PEER BLOCKS", "PEER MOVES", "RATIO"]);
        }
        let mut rows = heading(&words);
        for (step, packing) in self.steps.iter().enumerate() {
            let mut cells = vec![step as u64, packing.free_frames, packing.free_pageblocks];
            cells.extend([packing.possible, packing.moves]);
            let peer = peer.get(step);
            cells.extend(peer.iter().flat_map(|peer| [peer.free_pageblocks, peer.moves]));
            let mut cells: Vec<String> = cells.iter().map(u64::to_string).collect();
            let ratio = |peer: &Packing| packing.moves as f64 / peer.moves as f64;
            cells.extend(peer.map(|peer| format!("{:.3}", ratio(peer))));
            rows.push(cells);
        }
        rows
    }

    /// What compaction did.
    #[must_use]
    pub fn compaction_rows(&self) -> Rows {
        let mut rows =
            heading(&["COMPACTED", "MOVES", "BLOCKS BEFORE", "BLOCKS AFTER", "MILLISECONDS"]);
        for (when, done) in
            [("after step 0", self.compaction_at_first), ("at the end", self.compaction_at_last)]
        {
            let [moves, before, after] =
                [done.moves, done.before, done.after].map(|figure| figure.to_string());
            rows.push(vec![when.to_owned(), moves, before, after, format!("{:.2}", done.ms)]);
        }
        rows
    }

    /// What it was measured with.
    #[must_use]
    pub fn title(&self) -> String {
        format!(
            "frag: {}, {} threads, caches {}",
            ByteSize(self.frames * PAGE_BYTES),
            self.threads,
            on_or_off(self.caches)
        )
    }
}

/// A row for each size, with all of it free and with nearly all taken.
#[must_use]
pub fn scale_rows(scale: &[ScaleRow]) -> Rows {
    let mut rows = heading(&[
        "NODE", "STATE", "REPEAT", "UNCACHED", "2 MiB", "TAKE", "GIVE", "TAKE_AT", "ISOLATE",
    ]);
    for row in scale {
        for (state, figures) in [("free", &row.free), ("full", &row.nearly_full)] {
            let ScaleFigures { repeat_ns, repeat_uncached_ns, repeat_pageblock_ns, .. } = *figures;
            let ScaleFigures { bulk_take_ns, bulk_give_ns, take_at_ns, isolate_block_ns, .. } =
                *figures;
            let figures = [
                repeat_ns,
                repeat_uncached_ns,
                repeat_pageblock_ns,
                bulk_take_ns,
                bulk_give_ns,
                take_at_ns,
                isolate_block_ns,
            ];
            let mut cells = vec![ByteSize(row.frames * PAGE_BYTES).to_string(), state.to_owned()];
            cells.extend(figures.map(|figure| format!("{figure:.1}")));
            rows.push(cells);
        }
    }
    rows
}

/// What having a node of each size costs.
#[must_use]
pub fn metadata_rows(scale: &[ScaleRow]) -> Rows {
    let mut rows = heading(&[
        "NODE",
        "ADD 128 MiB ns",
        "ADD ALL ms",
        "TAKE 1 GiB ns",
        "TAKE_AT",
        "METADATA B/FRAME",
        "RESIDENT B/FRAME",
    ]);
    for row in scale {
        rows.push(vec![
            ByteSize(row.frames * PAGE_BYTES).to_string(),
            format!("{:.0}", row.add_block_ns),
            format!("{:.2}", row.add_ms),
            format!("{:.0}", row.take_gigabyte_ns),
            format!("{:.0}", row.take_gigabyte_at_ns),
            format!("{:.3}", row.metadata_bytes_per_frame),
            format!("{:.4}", row.resident_bytes_per_frame),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Calls;

    fn report(operation: Operation) -> SpeedReport {
        let spread = |figure| Spread::of(&[figure]);
        let apart = operation != Operation::Repeat;
        let row = SpeedRow {
            operation,
            threads: 2,
            order: 9,
            by: By::Number,
            caches: Caches::On,
            take_ns: spread(10.0).filter(|_| apart),
            give_ns: spread(5.0).filter(|_| apart),
            pair_ns: spread(15.0).unwrap(),
        };
        SpeedReport { frames: 1 << 15, iterations: 1, calls: Calls::Direct, rows: vec![row] }
    }

    #[test]
    fn ratios_are_of_pairs() {
        let peer = Peer::parse("x,order,get_avg,put_avg\n2,9,20,30\n2,9,20,10\n").unwrap();
        let ratios = |operation| {
            let peers = Peers::from([(operation, peer.clone())]);
            let rows = report(operation).rows(&peers);
            assert_eq!(rows[0].len(), rows[1].len());
            rows[1][8..].join(" ")
        };
        assert_eq!(ratios(Operation::Bulk), "20.00 20.00 40.00 0.38 0.50");
        assert_eq!(ratios(Operation::Repeat), "  20.00 0.75 0.75");
    }

    #[test]
    fn without_a_peer_there_are_no_ratios() {
        let rows = report(Operation::Rand).rows(&Peers::new());
        assert_eq!(rows[1].join(" "), "rand 2 9 number on 10.00 5.00 15.00");
        assert_eq!(rows[0].len(), rows[1].len());
    }

    #[test]
    fn the_table_of_commas_has_a_cell_for_each_column() {
        for operation in [Operation::Rand, Operation::Repeat] {
            let csv = report(operation).csv();
            let lengths: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
            assert_eq!(lengths, [14, 14]);
        }
        let csv = report(Operation::Repeat).csv();
        assert!(csv.ends_with("repeat,2,9,number,on,,,,,,,15.000,15.000,15.000\n"), "{csv}");
    }
}
