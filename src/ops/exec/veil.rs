//! Directories shown read-only whose sockets are the host's after all.

use std::path::Path;

use crate::base::text;
use crate::jail::spec::{BindKind, Spec};
use crate::jail::status::{Layer, Layers};
use crate::policy::settings::Access;

/// A line for a run that had to show a directory as it is.
pub(super) fn missing(spec: &Spec, layers: Layers) -> Option<String> {
    let workspace = (spec.access == Access::Ro).then_some(spec.workspace.as_path());
    let binds = spec.binds.iter().filter(|b| b.kind == BindKind::Veiled).map(|b| b.path.as_path());
    line(&workspace.into_iter().chain(binds).collect::<Vec<_>>(), layers)
}

fn line(shown: &[&Path], layers: Layers) -> Option<String> {
    // Every jail that got as far as its command has the pivot.
    if shown.is_empty() || layers.has(Layer::ReadOnlyOverlay) || !layers.has(Layer::Pivot) {
        return None;
    }
    let what = match shown {
        [one] => format!("`{}`", text::os(one)),
        _ => "one of the directories shown read-only".to_owned(),
    };
    Some(format!(
        "{what} lies on a file system over which no overlay can be mounted: the sockets, FIFOs and locks \
         in it were the host's"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_for_jails_that_ran_with_a_directory_as_it_is() {
        let layers = |all: &[Layer]| {
            let mut layers = Layers::default();
            all.iter().for_each(|l| layers.add(*l));
            layers
        };
        let (plain, covered) = (layers(&[Layer::Pivot]), layers(&[Layer::Pivot, Layer::ReadOnlyOverlay]));
        let (a, b) = (Path::new("/a\n"), Path::new("/b"));
        assert!(line(&[a], plain).unwrap().starts_with("`/a\\n` lies on"));
        assert!(line(&[a, b], plain).unwrap().starts_with("one of the directories"));
        assert_eq!(
            (line(&[], plain), line(&[a], covered), line(&[a], Layers::default())),
            (None, None, None)
        );
    }
}
