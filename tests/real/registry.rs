//! Registries of packages on loopback: files served as they lie in a directory.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server that ends with the test program. What it serves may be added later.
pub struct Registry {
    dir: tempfile::TempDir,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Registry {
    pub fn new() -> Registry {
        let dir = tempfile::Builder::new().prefix("registry-").tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let top = dir.path().to_owned();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut some = [0; 4096];
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut some) {
                        Ok(n) if n > 0 => head.extend_from_slice(&some[..n]),
                        _ => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/");
                let answer = match std::fs::read(top.join(path.trim_start_matches('/'))) {
                    Ok(body) => {
                        let kind = match path.rsplit('.').next() {
                            Some("tgz" | "gz" | "crate" | "whl") => "application/octet-stream",
                            Some("html") => "text/html",
                            _ => "application/json",
                        };
                        let head = format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                             Cache-Control: max-age=600\r\nConnection: close\r\n\r\n",
                            body.len()
                        );
                        [head.into_bytes(), body].concat()
                    }
                    Err(_) => b"HTTP/1.1 404 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
                };
                drop(stream.write_all(&answer));
            }
        });
        Registry { dir, url }
    }

    /// A file to serve.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A `tar.gz` to serve, of these files below `top`.
    pub fn archive(&self, name: &str, top: &str, files: &[(&str, &str)]) -> PathBuf {
        let work = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = work.path().join(top).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let out = self.write(name, "");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(work.path()).args(["--owner=0", "--group=0", "-czf"]).arg(&out).arg(top);
        assert!(tar.status().unwrap().success());
        out
    }

    /// The crate `warm` 1.0.0 in a sparse index.
    pub fn with_crate(&self) {
        let manifest = "[package]\nname = \"warm\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
        let source = "pub fn word() -> &'static str { \"from the registry\" }\n";
        let files = [("Cargo.toml", manifest), ("src/lib.rs", source)];
        let archive = self.archive("crates/warm/1.0.0/download", "warm-1.0.0", &files);
        let line = serde_json::json!({
            "name": "warm", "vers": "1.0.0", "deps": [], "cksum": digest("sha256sum", &archive),
            "features": {}, "yanked": false,
        });
        self.write("index/wa/rm/warm", format!("{line}\n"));
        self.write("index/config.json", format!("{{\"dl\":\"{}/crates\"}}", self.url));
    }

    /// The package `warm` 1.0.0 as npm's registries have it.
    pub fn with_package(&self) {
        let manifest = r#"{"name":"warm","version":"1.0.0","main":"index.js","bin":{"warm":"cli.js"}}"#;
        let files = [
            ("package.json", manifest),
            ("index.js", "module.exports = 'from the registry'\n"),
            ("cli.js", "#!/usr/bin/env node\nconsole.log(require('./index.js'))\n"),
        ];
        let archive = self.archive("files/warm-1.0.0.tgz", "package", &files);
        let version = serde_json::json!({
            "name": "warm", "version": "1.0.0", "main": "index.js", "bin": {"warm": "cli.js"},
            "dist": {
                "tarball": format!("{}/files/warm-1.0.0.tgz", self.url), "shasum": digest("sha1sum", &archive),
            },
        });
        let all = serde_json::json!({
            "name": "warm", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version},
            "time": {"1.0.0": "2020-01-01T00:00:00.000Z"},
        });
        self.write("npm/warm", all.to_string());
    }

    /// A source distribution of the Python package `warm`, with a build backend of its own.
    pub fn with_sdist(&self) -> String {
        let backend = "import base64, hashlib, os, zipfile\n\
            def build_wheel(out, config_settings=None, metadata_directory=None):\n\
            \x20   files = {'warm.py': \"WORD = 'from the index'\\n\",\n\
            \x20       'warm-1.0.0.dist-info/METADATA': 'Metadata-Version: 2.1\\nName: warm\\nVersion: 1.0.0\\n',\n\
            \x20       'warm-1.0.0.dist-info/WHEEL': 'Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'}\n\
            \x20   record = ''.join(f'{name},,\\n' for name in files) + 'warm-1.0.0.dist-info/RECORD,,\\n'\n\
            \x20   name = 'warm-1.0.0-py3-none-any.whl'\n\
            \x20   with zipfile.ZipFile(os.path.join(out, name), 'w') as z:\n\
            \x20       for path, text in files.items(): z.writestr(path, text)\n\
            \x20       z.writestr('warm-1.0.0.dist-info/RECORD', record)\n\
            \x20   return name\n";
        let project = "[build-system]\nrequires = []\nbuild-backend = \"own\"\nbackend-path = [\".\"]\n\
            [project]\nname = \"warm\"\nversion = \"1.0.0\"\n";
        let files = [
            ("pyproject.toml", project),
            ("own.py", backend),
            ("PKG-INFO", "Metadata-Version: 2.1\nName: warm\nVersion: 1.0.0\n"),
        ];
        self.archive("pypi/warm-1.0.0.tar.gz", "warm-1.0.0", &files);
        format!("{}/pypi/warm-1.0.0.tar.gz", self.url)
    }
}

/// The digest of a file, by a program of the system.
fn digest(program: &str, file: &Path) -> String {
    let output = Command::new(program).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}
