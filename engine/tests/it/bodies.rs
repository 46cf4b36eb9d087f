//! The bodies of the fuzz targets that take operations, on random inputs: what fuzzing proved at length is looked at in each run.

use sluice_engine::testing::fuzz;

fn on_random_inputs(body: fn(&[u8]), inputs: u64, len_max: usize) {
    for seed in 0..inputs {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut input = vec![0; rng.usize(0..len_max)];
        rng.fill(&mut input);
        if let Err(panic) = std::panic::catch_unwind(|| body(&input)) {
            eprintln!("failed on the input of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn state_machines_keep_their_promises() {
    on_random_inputs(fuzz::rewriter, 2_000, 1_600);
    on_random_inputs(fuzz::arrivals, 2_000, 1_600);
    on_random_inputs(fuzz::resends, 2_000, 1_600);
}

#[test]
fn protection_keeps_its_promises() {
    on_random_inputs(fuzz::srtp, 1_000, 400);
    on_random_inputs(fuzz::srtp_index, 500, 1_600);
    on_random_inputs(fuzz::dtls, 200, 1_600);
    on_random_inputs(fuzz::sctp, 500, 1_600);
}

#[test]
fn a_shard_keeps_its_promises() {
    on_random_inputs(fuzz::shard, 60, 1_600);
}
