//! Lines that hang below each other.

/// A line, and those below it.
pub struct Tree {
    line: String,
    below: Vec<Tree>,
}

impl Tree {
    pub fn leaf(line: impl Into<String>) -> Self {
        Self { line: line.into(), below: Vec::new() }
    }

    pub fn new(line: impl Into<String>, below: Vec<Tree>) -> Self {
        Self { line: line.into(), below }
    }

    /// The lines, with what shows how they hang together.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.line);
        self.below_text("", &mut text);
        text
    }

    fn below_text(&self, indent: &str, text: &mut String) {
        for (index, child) in self.below.iter().enumerate() {
            let is_last = index + 1 == self.below.len();
            let (branch, more) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            *text += &format!("{indent}{branch}{}\n", child.line);
            child.below_text(&format!("{indent}{more}"), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_level_ends_its_line() {
        let tree = Tree::new(
            "a",
            vec![Tree::new("b", vec![Tree::leaf("c")]), Tree::new("d", vec![Tree::leaf("e")])],
        );
        assert_eq!(tree.text(), "a\n├─ b\n│  └─ c\n└─ d\n   └─ e\n");
    }
}
