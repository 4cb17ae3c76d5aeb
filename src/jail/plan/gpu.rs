//! Device nodes of the host beside those that every jail has.

use std::path::Path;

use super::{Error, Mount, Plan, Points, What, cstring};
use crate::jail::spec::Spec;
use crate::sys::mount::Attr;

/// Show them at their own places. Landlock's rule for `/dev` holds for them as well.
pub(super) fn devices(p: &mut Plan, points: &mut Points, spec: &Spec) -> Result<(), Error> {
    for name in &spec.devices {
        let point = Path::new("root/dev").join(name);
        points.dir(point.parent().unwrap_or(Path::new("root/dev")));
        points.files.push(point);
        // As for the others: read-only keeps chmod from the host's inode, and the device works.
        let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NOEXEC);
        let source = cstring("a path", format!("/dev/{name}"))?;
        let at = cstring("a path", format!("dev/{name}"))?;
        p.mounts.push(Mount { what: What::Bind { source, attr, resolved: true }, at, ours: true });
    }
    Ok(())
}
