//! Functions and the functions that they called, each with its samples.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Functions in their places that are kept: a bound on memory, some hundred bytes each. What a profile of two minutes has stays far below.
const NODES_MAX: usize = 2_000_000;

/// Functions of one stack that are kept, from the outermost in. The kernel gives 127.
const DEPTH_MAX: usize = 512;

/// A function in its place.
#[derive(Debug)]
struct Node {
    name: u32,
    /// Samples in it and in what it called.
    total: u64,
    /// Samples in it alone.
    own: u64,
    children: Vec<u32>,
}

/// All stacks, with what they share shared.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    names: Vec<String>,
    name_ids: HashMap<String, u32>,
    /// The child of a node with a name.
    places: HashMap<(u32, u32), u32>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node { name: 0, total: 0, own: 0, children: Vec::new() };
        let name = "all".to_owned();
        Self {
            nodes: vec![root],
            name_ids: HashMap::from([(name.clone(), 0)]),
            names: vec![name],
            places: HashMap::new(),
        }
    }
}

/// A function as it is drawn.
#[derive(Clone, PartialEq, Debug)]
pub struct Frame<'a> {
    /// Its name.
    pub name: &'a str,
    /// Functions around it.
    pub depth: usize,
    /// Samples to the left of it.
    pub begin: u64,
    /// Samples in it and in what it called.
    pub total: u64,
}

impl Tree {
    /// Adds `count` samples of a stack, given from the outermost function in.
    pub fn add<'a>(
        &mut self,
        stack: impl Iterator<Item = &'a str>,
        count: u64,
    ) -> Result<(), String> {
        let sum = self.nodes[0].total.checked_add(count);
        self.nodes[0].total = sum.ok_or("there are more samples than can be counted")?;
        let mut at = 0;
        for name in stack.take(DEPTH_MAX) {
            at = self.child(at, name)?;
            // No larger than the sum at the root.
            self.nodes[at as usize].total += count;
        }
        self.nodes[at as usize].own += count;
        Ok(())
    }

    fn child(&mut self, parent: u32, name: &str) -> Result<u32, String> {
        let id = match self.name_ids.get(name) {
            Some(id) => *id,
            None => {
                let id = self.names.len() as u32;
                self.names.push(name.to_owned());
                self.name_ids.insert(name.to_owned(), id);
                id
            }
        };
        if let Some(child) = self.places.get(&(parent, id)) {
            return Ok(*child);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("more than {NODES_MAX} functions in their places: record less"));
        }
        let child = self.nodes.len() as u32;
        self.nodes.push(Node { name: id, total: 0, own: 0, children: Vec::new() });
        self.nodes[parent as usize].children.push(child);
        self.places.insert((parent, id), child);
        Ok(child)
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.nodes[0].total
    }

    /// Every function in its place that has at least `least` samples, each before those that it called, and these by name: so the same
    /// functions stand in the same order in two pictures.
    pub fn frames(&self, least: u64) -> Vec<Frame<'_>> {
        let mut frames = Vec::new();
        let mut open = vec![(0_u32, 0_usize, 0_u64)];
        while let Some((at, depth, begin)) = open.pop() {
            let node = &self.nodes[at as usize];
            if node.total < least.max(1) {
                continue;
            }
            frames.push(Frame { name: self.name(node), depth, begin, total: node.total });
            let first = open.len();
            let mut begin = begin;
            for child in self.children(node) {
                open.push((child, depth + 1, begin));
                begin += self.nodes[child as usize].total;
            }
            open[first..].reverse();
        }
        frames
    }

    /// The stacks as text, by name.
    pub fn folded(&self) -> String {
        let mut text = String::new();
        let mut open: Vec<(u32, usize)> = vec![(0, 0)];
        let mut path: Vec<&str> = Vec::new();
        while let Some((at, depth)) = open.pop() {
            let node = &self.nodes[at as usize];
            if depth > 0 {
                path.truncate(depth - 1);
                path.push(self.name(node));
            }
            if node.own > 0 && depth > 0 {
                let _ = writeln!(text, "{} {}", path.join(";"), node.own);
            }
            open.extend(self.children(node).into_iter().rev().map(|child| (child, depth + 1)));
        }
        text
    }

    fn name(&self, node: &Node) -> &str {
        &self.names[node.name as usize]
    }

    fn children(&self, node: &Node) -> Vec<u32> {
        let mut children = node.children.clone();
        children.sort_by_key(|child| self.name(&self.nodes[*child as usize]));
        children
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(lines: &[(&str, u64)]) -> Tree {
        let mut tree = Tree::default();
        for (stack, count) in lines {
            tree.add(stack.split(';'), *count).unwrap();
        }
        tree
    }

    #[test]
    fn stacks_that_begin_alike_share_their_beginning() {
        let tree = tree(&[("t;b;c", 3), ("t;a", 1), ("t;b;d", 2), ("t;b", 4)]);
        let frame = |name, depth, begin, total| Frame { name, depth, begin, total };
        let expected = [
            frame("all", 0, 0, 10),
            frame("t", 1, 0, 10),
            frame("a", 2, 0, 1),
            frame("b", 2, 1, 9),
            frame("c", 3, 1, 3),
            frame("d", 3, 4, 2),
        ];
        assert_eq!(tree.frames(0), expected);
        assert_eq!(tree.frames(3), [&expected[..2], &expected[3..5]].concat());
    }

    #[test]
    fn folding_gives_back_what_was_added() {
        let tree = tree(&[("t;b;c", 3), ("t;a", 1), ("t;b", 4), ("t;b;c", 1)]);
        assert_eq!(tree.folded(), "t;a 1\nt;b 4\nt;b;c 4\n");
    }

    #[test]
    fn a_stack_without_end_is_cut_and_counts_without_end_are_refused() {
        let mut tree = Tree::default();
        tree.add(std::iter::repeat_n("f", 100_000), 1).unwrap();
        assert_eq!(tree.frames(0).len(), DEPTH_MAX + 1);
        assert!(tree.add(std::iter::once("f"), u64::MAX).is_err());
    }
}
