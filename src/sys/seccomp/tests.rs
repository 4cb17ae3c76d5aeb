use super::*;
#[test]
fn sizes() {
    for level in [Level::Standard, Level::Strict, Level::Log] {
        for nested_userns in [false, true] {
            let o = Options { level, nested_userns };
            let p = program(&o);
            let steps: Vec<usize> =
                (0..470).map(|n| interp::run(p.instructions(), n, ARCH, [0; 6]).1).collect();
            eprintln!(
                "{o:?} len {} mean {} max {:?}",
                p.instructions().len(),
                steps.iter().sum::<usize>() as f64 / 470.,
                steps.iter().max()
            );
        }
    }
}
