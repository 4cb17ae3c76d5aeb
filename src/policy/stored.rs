//! The settings of a workspace as its record keeps them: the section `[policy]` of `workspace.toml`, in
//! the words of `[defaults]` in config.toml.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::Path;

use super::file::FileError;
use super::key::Key;
use super::layer::{At, Layer};
use super::read::{Paths, Reader};
use super::settings::Tools;
use super::value::{cpu_text, limit_text, size_text, time_text};
use crate::base::text::os;

const SECTION: &str = "policy";

/// What a workspace says about every command in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The workspace, as messages and tables call it.
    pub name: String,
    /// Its settings, with the lines of its record.
    pub layer: Layer,
    /// Names in the record that nobody reads.
    pub warnings: Vec<String>,
}

/// A value that no file of text can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` is not plain text, which a workspace's record is")]
pub struct NotText {
    /// Which setting.
    pub what: &'static str,
    /// Its value, printable.
    pub value: String,
}

/// The section as text, its heading included; empty when nothing is set. Paths are taken as they are: they
/// should be absolute.
pub fn print(layer: &Layer) -> Result<String, NotText> {
    // Taken apart in full, so that a new field cannot be forgotten here.
    let Layer {
        preset,
        mode,
        access,
        net,
        seccomp,
        nested_userns,
        as_root,
        tools,
        caches,
        timeout,
        grace,
        mem,
        cpu_millis,
        pids,
        nofile,
        tmp,
        disk,
        storage,
        io_read,
        io_write,
        best_effort,
        durable,
        ro,
        rw,
        show,
        hide,
        require,
        env,
        pass,
    } = layer;
    let mut out = String::new();
    let mut line = |key: Key, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!("{} = {value}\n", key.name()));
        }
    };
    let count = |n: u64| n.to_string();
    line(Key::Preset, preset.as_ref().map(|v| quote(&v.value)));
    line(Key::Mode, word(mode.as_ref()));
    line(Key::Workspace, word(access.as_ref()));
    line(Key::Net, word(net.as_ref()));
    line(Key::Seccomp, word(seccomp.as_ref()));
    line(Key::NestedUserns, flag(nested_userns.as_ref()));
    line(Key::AsRoot, flag(as_root.as_ref()));
    line(Key::Tools, names(tools.as_ref()));
    line(Key::Caches, names(caches.as_ref()));
    line(Key::Timeout, timeout.as_ref().map(|v| quote(&limit_text(v.value, time_text))));
    line(Key::Grace, grace.as_ref().map(|v| quote(&time_text(v.value))));
    line(Key::Mem, mem.as_ref().map(|v| quote(&limit_text(v.value, size_text))));
    line(Key::Cpus, cpu_millis.as_ref().map(|v| quote(&limit_text(v.value, cpu_text))));
    line(Key::Pids, pids.as_ref().map(|v| quote(&limit_text(v.value, count))));
    line(Key::Nofile, nofile.as_ref().map(|v| quote(&limit_text(v.value, count))));
    line(Key::Tmp, tmp.as_ref().map(|v| quote(&size_text(v.value))));
    line(Key::Disk, disk.as_ref().map(|v| quote(&limit_text(v.value, size_text))));
    line(Key::Storage, word(storage.as_ref()));
    line(Key::IoRead, io_read.as_ref().map(|v| quote(&limit_text(v.value, size_text))));
    line(Key::IoWrite, io_write.as_ref().map(|v| quote(&limit_text(v.value, size_text))));
    line(Key::BestEffort, flag(best_effort.as_ref()));
    line(Key::Durable, flag(durable.as_ref()));
    for (key, paths) in [(Key::Ro, ro), (Key::Rw, rw)] {
        let paths: Result<Vec<_>, _> = paths.iter().map(|p| text(key.flag(), p.value.as_os_str())).collect();
        line(key, list(paths?));
    }
    line(Key::Show, list(show.iter().map(|p| quote(&p.value))));
    line(Key::Hide, list(hide.iter().map(|p| quote(&p.value))));
    line(Key::Require, list(require.iter().map(|n| quote(n.value.as_str()))));
    let passed: Result<Vec<_>, _> = pass.iter().map(|n| text(Key::Pass.flag(), &n.value)).collect();
    line(Key::Pass, list(passed?));
    let set = env.iter().map(|At { value: (name, value), .. }| {
        Ok(format!("{} = {}", text(Key::Env.flag(), name)?, text(Key::Env.flag(), value)?))
    });
    let set: Vec<String> = set.collect::<Result<_, NotText>>()?;
    line(Key::Env, (!set.is_empty()).then(|| format!("{{ {} }}", set.join(", "))));
    Ok(if out.is_empty() { out } else { format!("[{SECTION}]\n{out}") })
}

/// Read the section from a whole record. `path` is what messages call it, `name` the workspace.
pub fn parse(path: &str, name: &str, bytes: &[u8]) -> Result<Stored, FileError> {
    let mut reader = Reader::new(path, bytes, Paths::Absolute { home: None })?;
    let root = reader.parse()?;
    let mut layer = Layer::default();
    // What else is in the record is not ours to judge.
    for (key, value) in root.get_ref() {
        if key.get_ref() == SECTION {
            let table = reader.table("[policy]", value)?;
            layer = reader.layer("[policy]", table, &Key::ALL)?;
        }
    }
    let warnings = reader.finish();
    Ok(Stored { name: name.to_owned(), layer, warnings })
}

fn word<T: Display>(value: Option<&At<T>>) -> Option<String> {
    value.map(|v| quote(&v.value.to_string()))
}

fn flag(value: Option<&At<bool>>) -> Option<String> {
    value.map(|v| v.value.to_string())
}

fn names(value: Option<&At<Tools>>) -> Option<String> {
    word(value)
}

fn list(values: impl IntoIterator<Item = String>) -> Option<String> {
    let values: Vec<String> = values.into_iter().collect();
    (!values.is_empty()).then(|| format!("[{}]", values.join(", ")))
}

fn text(what: &'static str, value: &OsStr) -> Result<String, NotText> {
    value.to_str().map(quote).ok_or_else(|| NotText { what, value: os(&Path::new(value)) })
}

/// A basic string on one line: what stands in a record is seen as one line, whatever is in it.
fn quote(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::require;
    use super::super::settings::{Access, Mode, Net, Seccomp, Storage};
    use super::*;

    fn full() -> Layer {
        let mut layer = Layer {
            preset: Some("build".to_owned().into()),
            mode: Some(Mode::Nested.into()),
            access: Some(Access::Ro.into()),
            net: Some(Net::Host.into()),
            seccomp: Some(Seccomp::Strict.into()),
            nested_userns: Some(true.into()),
            as_root: Some(false.into()),
            tools: Some(Tools::Only(vec!["rustup".into(), "nvm".into()]).into()),
            caches: Some(Tools::Auto.into()),
            timeout: Some(Some(Duration::from_secs(90)).into()),
            grace: Some(Duration::ZERO.into()),
            mem: Some(Some(1536 << 20).into()),
            cpu_millis: Some(Some(500).into()),
            pids: Some(None.into()),
            nofile: Some(Some(77).into()),
            tmp: Some(4097.into()),
            disk: Some(None.into()),
            storage: Some(Storage::Memory.into()),
            io_read: Some(Some(1).into()),
            io_write: Some(Some(1 << 40).into()),
            best_effort: Some(true.into()),
            durable: Some(true.into()),
            ro: vec![Path::new("/a b").to_owned().into()],
            rw: vec![Path::new("/\"q\\\n\u{7f}é").to_owned().into()],
            show: vec!["*.key".to_owned().into()],
            hide: vec!["**/x".to_owned().into()],
            require: vec![require::parse("landlock:6").unwrap().into()],
            ..Layer::default()
        };
        layer.set_env("A".into(), "x = '\"\n[policy]\n".into(), 0);
        layer.set_env("b.c d".into(), "".into(), 0);
        layer.pass_env("LANG".into(), 0);
        layer
    }

    /// Without lines, which only what was read has.
    fn bare(mut layer: Layer) -> String {
        layer.ro.iter_mut().chain(&mut layer.rw).for_each(|a| a.line = 0);
        print(&layer).unwrap()
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let text = print(&full()).unwrap();
        let record = format!("name = \"api\"\nelse = [1]\n\n{text}");
        let read = parse("workspace.toml", "api", record.as_bytes()).unwrap();
        assert_eq!((read.name.as_str(), &*read.warnings), ("api", &[] as &[String]));
        assert_eq!(bare(read.layer.clone()), text);
        assert_eq!(read.layer.preset.map(|p| p.line), Some(5));
        assert_eq!(
            read.layer.env.iter().map(|e| e.value.clone()).collect::<Vec<_>>(),
            [("A".into(), "x = '\"\n[policy]\n".into()), ("b.c d".into(), "".into())]
        );
        assert_eq!(print(&Layer::default()).unwrap(), "");
        assert_eq!(parse("w", "n", b"name = \"n\"\n").unwrap().layer, Layer::default());
    }

    #[test]
    fn what_is_no_text_is_refused_and_damage_names_its_line() {
        use std::os::unix::ffi::OsStrExt;
        let odd = Path::new(OsStr::from_bytes(b"/a\xff")).to_owned();
        let e = print(&Layer { ro: vec![odd.into()], ..Layer::default() }).unwrap_err();
        assert_eq!(e.to_string(), "--ro `/a\\xff` is not plain text, which a workspace's record is");
        let e = parse("w.toml", "n", b"[policy]\nmem = 1\nnet = \"x\"\n").unwrap_err();
        assert_eq!(e.line, 3);
    }
}
