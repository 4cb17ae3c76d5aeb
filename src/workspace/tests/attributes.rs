//! What a file of the host has beside its content and its bits.

use super::{Fixture, chmod};

/// acl(5): with a list the bits of the group are its mask, not what the group may.
#[test]
fn who_may_read_a_file_of_the_hosts_is_as_it_was_when_it_has_other_content() {
    use crate::sys::xattr;
    const NOBODY: u32 = u32::MAX;
    let list = |entries: &[(u16, u16, u32)]| {
        let entries = entries.iter().flat_map(|(tag, bits, id)| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        });
        2u32.to_le_bytes().into_iter().chain(entries).collect::<Vec<u8>>()
    };
    // The user's own, one named, the group (none), the mask, others (none).
    let private = list(&[(1, 6, NOBODY), (2, 6, 1002), (4, 0, NOBODY), (0x10, 6, NOBODY), (0x20, 0, NOBODY)]);
    let mut f = Fixture::new(&[("private", "a"), ("plain", "a"), ("dir/plain", "a")]);
    let open = |path: &std::path::Path| std::fs::File::open(path).unwrap();
    if xattr::set_access_list(open(&f.base("private")), Some(&private)).is_err() {
        return println!("SKIP: the file system of the temporary directory knows no access lists");
    }
    xattr::set(open(&f.base("private")), c"user.mine", b"1").unwrap();
    // What the directory would give to new files.
    xattr::set(open(&f.base("dir")), c"system.posix_acl_default", &private).unwrap();
    f.start();
    for file in ["private", "plain", "dir/plain"] {
        f.jail(file, "b");
        chmod(f.upper(file), if file == "private" { 0o660 } else { 0o640 });
    }
    let r = f.apply();
    assert!(r.failed.is_empty(), "{:?}", r.failed);
    for file in ["private", "plain", "dir/plain"] {
        assert_eq!(std::fs::read(f.base(file)).unwrap(), b"b");
        let now = xattr::access_list(open(&f.base(file))).unwrap();
        assert_eq!(now, (file == "private").then(|| private.clone()), "{file}");
    }
    assert_eq!((f.mode("private"), f.mode("dir/plain")), (0o660, 0o640));
    assert_eq!(xattr::get(open(&f.base("private")), c"user.mine").unwrap().as_deref(), Some(&b"1"[..]));
}
