//! Memory tiers by abstract distance, and what each accessor has to each node.
