//! Node and npm of the system.

use super::project::{Project, has};

fn same(script: &str) {
    if !has("node") {
        return;
    }
    let p = Project::new();
    p.write("main.mjs", script);
    p.same("node main.mjs");
}

#[test]
fn workers_children_and_servers() {
    same(
        r#"
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { spawn, fork, execFileSync, exec } from 'node:child_process';
import http from 'node:http'; import net from 'node:net'; import fs from 'node:fs'; import os from 'node:os';
import dns from 'node:dns/promises'; import crypto from 'node:crypto'; import tls from 'node:tls'; import zlib from 'node:zlib';
import { promisify } from 'node:util'; import { once } from 'node:events'; import cluster from 'node:cluster';
if (!isMainThread) { parentPort.postMessage(workerData * 2); }
else if (process.argv[2] === 'child') { process.send('from child'); process.disconnect(); }
else {
    const doubled = await Promise.all([1, 2, 3, 4].map(async n => { const w = new Worker(new URL(import.meta.url), { workerData: n }); const [m] = await once(w, 'message'); return m; }));
    console.log(doubled);
    console.log(execFileSync('sh', ['-c', 'echo $0; cat', 'zero'], { input: 'stdin' }).toString());
    const c = fork(new URL(import.meta.url).pathname, ['child']); console.log(await once(c, 'message'));
    const killed = spawn('sleep', ['60']); killed.kill('SIGTERM'); console.log(await once(killed, 'exit'));
    const server = http.createServer((q, s) => s.end('hello ' + q.url)).listen(0, '127.0.0.1'); await once(server, 'listening');
    console.log(await (await fetch(`http://127.0.0.1:${server.address().port}/x`)).text());
    console.log(await (await fetch(`http://localhost:${server.address().port}/y`)).text()); server.close(); server.closeAllConnections();
    const unix = net.createServer(s => s.end('unix')).listen('sock'); await once(unix, 'listening');
    const client = net.connect('sock'); console.log((await once(client, 'data'))[0].toString()); unix.close();
    const watcher = fs.watch('.'); const seen = once(watcher, 'change'); fs.writeFileSync('watched', '1'); console.log(await seen); watcher.close();
    console.log((await dns.lookup('localhost', { family: 4 })).address, tls.rootCertificates.length > 100, os.cpus().length > 0, os.homedir() === process.env.HOME, os.tmpdir());
    console.log(crypto.randomBytes(8).length, zlib.gunzipSync(zlib.gzipSync('z')).toString(), os.userInfo().username.length > 0, process.memoryUsage().rss > 0);
    const big = Buffer.alloc(300e6, 1); console.log(big.length, new WebAssembly.Memory({ initial: 10, maximum: 65536 }).buffer.byteLength);
    console.log(new Intl.DateTimeFormat('de', { timeZone: 'Europe/Berlin', timeStyle: 'short' }).format(0), process.stdout.isTTY);
    await fs.promises.cp('main.mjs', 'copy.mjs'); await fs.promises.rename('copy.mjs', 'moved.mjs'); await fs.promises.symlink('moved.mjs', 'link.mjs'); console.log(fs.readdirSync('.').sort());
}
"#,
    );
}

#[test]
fn a_project_with_dependencies_installed_outside_runs_inside() {
    if !has("npm") {
        return;
    }
    let p = Project::new();
    p.write(
        "dep/package.json",
        r#"{"name":"dep","version":"1.0.0","bin":{"dep":"cli.js"},"main":"index.js"}"#,
    );
    p.write("dep/index.js", "module.exports = 'dep works'");
    p.script("dep/cli.js", "#!/usr/bin/env node\nconsole.log('bin works', require('./index.js'))\n");
    p.write(
        "package.json",
        r#"{"name":"app","version":"1.0.0","scripts":{"start":"node app.js","bin":"dep && echo $npm_package_name $npm_lifecycle_event","fail":"exit 3","prebuild":"echo pre","build":"mkdir -p dist && echo built > dist/out && cat dist/out"},"dependencies":{"dep":"file:dep-1.0.0.tgz"}}"#,
    );
    p.write("app.js", "console.log(require('dep'))");
    p.outside("npm pack --silent ./dep >/dev/null && npm install --offline --no-audit --no-fund --silent && ls -l node_modules/.bin | grep -c dep");
    p.same("npm run --silent start; npm run --silent bin; npm run --silent fail; echo $?; npm run build 2>/dev/null | tail -2; npx --offline dep; ls node_modules");
    // Installing inside, without a network: from the tarball and the lock file, into the overlay.
    let said = p.inside("rm -rf node_modules; npm ci --offline --no-audit --no-fund --silent && node app.js && ls -a node_modules | grep -c lock; npm ls --depth=0 | tail -2 | head -1; npm config get cache");
    assert!(said.starts_with("dep works\n1\n") && said.contains("/home/agent/.npm"), "{said}");
}

#[test]
fn a_native_addon_built_outside_loads_inside() {
    let header = ["/usr/include/node/node_api.h", "/usr/include/nodejs/src/node_api.h"]
        .into_iter()
        .find(|h| std::path::Path::new(h).exists());
    let (true, Some(header)) = (has("node") && has("gcc"), header) else {
        super::project::skip("node's headers are not installed");
        return;
    };
    let p = Project::new();
    p.write(
        "node_modules/addon/addon.c",
        "#include <node_api.h>\nstatic napi_value init(napi_env e, napi_value x) { napi_value v; napi_create_int32(e, 42, &v); return v; }\nNAPI_MODULE(addon, init)\n",
    );
    p.write("node_modules/addon/index.js", "module.exports = require('./build/addon.node')");
    let include = std::path::Path::new(header).parent().unwrap().display();
    p.outside(&format!(
        "cd node_modules/addon && mkdir build && gcc -shared -fPIC -I{include} addon.c -o build/addon.node"
    ));
    assert_eq!(p.same("node -p \"require('addon')\"").stdout, "42\n");
}
