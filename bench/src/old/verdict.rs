//! Whether a run says something of the server, or of the generator and the machine.

/// What a fan-out run is judged by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed {
    /// CPU time of the generator by the time that passed. It has one thread.
    pub generator_cores: f64,
    /// Share of the time in which it could have run and had no core.
    pub generator_waited: f64,
    /// Likewise of the server's thread that waited most.
    pub server_waited: f64,
    /// Drops of the generator's sockets.
    pub generator_drops: u64,
    /// Packets that arrived while measuring.
    pub packets: u64,
    /// Packets that the publisher sent.
    pub sent: u64,
    /// Those of them that left more than a millisecond late.
    pub late: u64,
    /// Sessions that ended.
    pub closed: usize,
    /// Sampled packets that were not what was sent.
    pub damaged: u64,
}

/// What is thought of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// Whether the figures may be called the server's.
    pub is_valid: bool,
    /// Whether other programs had a part in them.
    pub is_disturbed: bool,
    /// All that was wrong, for people.
    pub problems: Vec<String>,
}

/// Share of a core above which the generator is taken for the limit.
const GENERATOR_CORES_MAX: f64 = 0.9;

/// Share of the time that a thread waited for a core, above which a run says more of the machine's other work than of the
/// server: what comes late comes in larger batches, and those are cheaper.
const DISTURBED: f64 = 0.05;

/// Judges a run.
pub fn judge(observed: &Observed) -> Verdict {
    let &Observed { generator_cores, generator_waited, generator_drops, sent, late, .. } = observed;
    let mut problems = Vec::new();
    if generator_cores > GENERATOR_CORES_MAX {
        problems.push(format!(
            "the generator was the bottleneck: it used {generator_cores:.2} of its one core"
        ));
    } else if generator_cores + generator_waited > 0.98 {
        problems.push(format!(
            "the generator was the bottleneck: it had no core for {:.0} % of the time and was busy \
            for the rest",
            generator_waited * 100.0
        ));
    }
    if generator_drops > 0 {
        problems.push(format!(
            "the generator was the bottleneck: its sockets dropped {generator_drops} times"
        ));
    }
    if observed.packets == 0 {
        problems.push("no packets arrived".to_owned());
    }
    let is_valid = problems.is_empty();
    let waited = generator_waited.max(observed.server_waited);
    let is_disturbed = waited > DISTURBED;
    if is_disturbed {
        problems.push(format!(
            "disturbed: one side waited for a core for {:.0} % of the time",
            waited * 100.0
        ));
    }
    if observed.closed > 0 {
        problems.push(format!("{} sessions ended during the run", observed.closed));
    }
    if late * 100 > sent {
        problems.push(format!("{late} of {sent} packets were sent more than 1 ms late"));
    }
    if observed.damaged > 0 {
        problems.push(format!("{} sampled packets were not what was sent", observed.damaged));
    }
    Verdict { is_valid, is_disturbed, problems }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Observed = Observed {
        generator_cores: 0.5,
        generator_waited: 0.01,
        server_waited: 0.01,
        generator_drops: 0,
        packets: 1_000,
        sent: 100,
        late: 1,
        closed: 0,
        damaged: 0,
    };

    #[test]
    fn a_clean_run_has_no_problems() {
        let clean = Verdict { is_valid: true, is_disturbed: false, problems: Vec::new() };
        assert_eq!(judge(&CLEAN), clean);
    }

    #[test]
    fn a_generator_at_its_limit_makes_the_run_invalid() {
        for observed in [
            Observed { generator_cores: 0.91, ..CLEAN },
            Observed { generator_cores: 0.6, generator_waited: 0.39, ..CLEAN },
            Observed { generator_drops: 1, ..CLEAN },
        ] {
            let verdict = judge(&observed);
            assert!(!verdict.is_valid);
            assert!(verdict.problems[0].contains("generator was the bottleneck"), "{verdict:?}");
        }
        assert!(!judge(&Observed { packets: 0, ..CLEAN }).is_valid);
    }

    #[test]
    fn other_trouble_is_named_and_leaves_the_figures() {
        for (observed, word) in [
            (Observed { server_waited: 0.06, ..CLEAN }, "disturbed"),
            (Observed { generator_waited: 0.06, ..CLEAN }, "disturbed"),
            (Observed { late: 2, ..CLEAN }, "late"),
            (Observed { closed: 1, ..CLEAN }, "ended"),
            (Observed { damaged: 1, ..CLEAN }, "not what was sent"),
        ] {
            let verdict = judge(&observed);
            assert!(verdict.is_valid);
            assert_eq!(verdict.is_disturbed, word == "disturbed");
            assert!(verdict.problems.len() == 1 && verdict.problems[0].contains(word));
        }
    }
}
