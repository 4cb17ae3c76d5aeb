//! A workspace whose directory on the host is gone: what does not depend on that can still be had.

use super::fails;
use crate::real::project::Project;

#[test]
fn what_lies_beside_a_directory_that_is_gone_can_be_had() {
    let Some(p) = Project::in_jails() else { return };
    let (over, away, out) = (p.top().join("over"), p.top().join("away"), p.top().join("out"));
    std::fs::create_dir(&over).unwrap();
    let over_text = over.to_str().unwrap();
    p.runs(&["ws", "create", "vn", "--from-dir", over_text]);
    let script =
        "echo new > new; echo h > ~/h; ln -s /workspace/new ~/to; mkdir /output/d; echo o > /output/d/o";
    p.runs(&["exec", "vn", "--", "sh", "-c", script]);
    std::fs::rename(&over, &away).unwrap();
    for (replaced, said, way) in [
        (false, "could not open the directory", format!("mkdir -p '{over_text}' && aj apply vn --overwrite")),
        (true, "is not the directory", "aj apply vn --overwrite".to_owned()),
    ] {
        if replaced {
            std::fs::create_dir(&over).unwrap();
        }
        assert_eq!(p.runs(&["fs", "cat", "vn", "/home/agent/h"]).stdout, "h\n");
        assert_eq!(p.runs(&["fs", "cat", "vn", "/output/d/o"]).stdout, "o\n");
        assert!(p.runs(&["fs", "list", "vn", "/output/d"]).stdout.contains('o'));
        assert!(p.runs(&["fs", "list", "vn", "/home/agent"]).stdout.contains('h'));
        assert!(p.runs(&["search", "vn", "o", "/output"]).stdout.contains("/output/d/o"));
        p.runs(&["cp", "-r", "vn:/output", out.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(out.join("d/o")).unwrap(), "o\n");
        std::fs::remove_dir_all(&out).unwrap();
        fails(&p.aj(["fs", "cat", "vn", "/home/agent/to"]), 4, "leads out of the workspace");
        let inside = over.join("new");
        for words in [
            &["fs", "cat", "vn", "new"][..],
            &["fs", "list", "vn"],
            &["fs", "cat", "vn", "/workspace/new"],
            &["fs", "cat", "vn", inside.to_str().unwrap()],
            &["fs", "cat", "vn", "../h"],
            &["cp", "vn:new", "-"],
            &["search", "vn", "new"],
            &["fs", "mkdir", "vn", "/output/more"],
        ] {
            let ran = p.aj(words);
            fails(&ran, 1, said);
            assert!(
                ran.stderr.contains(&way) && ran.stderr.contains("aj cp -r vn:/output"),
                "{words:?}: {ran:#?}"
            );
        }
    }
    p.runs(&["apply", "vn", "--overwrite"]);
    assert_eq!(std::fs::read_to_string(over.join("new")).unwrap(), "new\n");
}
