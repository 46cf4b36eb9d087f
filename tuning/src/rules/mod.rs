//! What should be different, one subject a file. Each has its settings and `findings(facts, goal, demand)`.
