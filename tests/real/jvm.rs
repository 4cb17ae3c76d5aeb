//! Java of the system.

use super::project::{Project, has};

#[test]
fn a_java_program_compiles_and_runs_with_threads_processes_and_certificates() {
    if !(has("java") && has("javac")) {
        return;
    }
    let p = Project::new();
    p.write(
        "Main.java",
        r#"
import java.io.*; import java.net.*; import java.nio.file.*; import java.security.KeyStore; import java.util.*; import java.util.concurrent.*;
import javax.net.ssl.*;
public class Main {
    public static void main(String[] a) throws Exception {
        ExecutorService e = Executors.newFixedThreadPool(16); List<Future<Integer>> all = new ArrayList<>();
        for (int i = 0; i < 100; i++) { final int n = i; all.add(e.submit(() -> n * n)); }
        int sum = 0; for (Future<Integer> f : all) sum += f.get(); e.shutdown(); System.out.println(sum);
        TrustManagerFactory t = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm()); t.init((KeyStore) null);
        System.out.println(((X509TrustManager) t.getTrustManagers()[0]).getAcceptedIssuers().length > 10);
        System.out.println(SSLContext.getDefault().getProtocol());
        Process c = new ProcessBuilder("sh", "-c", "cat; exit 5").start(); c.getOutputStream().write("piped\n".getBytes()); c.getOutputStream().close();
        System.out.println(new BufferedReader(new InputStreamReader(c.getInputStream())).readLine() + c.waitFor());
        ServerSocket s = new ServerSocket(0, 5, InetAddress.getByName("127.0.0.1"));
        Socket k = new Socket("localhost", s.getLocalPort()); s.accept().getOutputStream().write(65); System.out.println(k.getInputStream().read());
        Path f = Files.createTempFile("a", "b"); Files.writeString(f, "x"); System.out.println(Files.size(f)); Files.delete(f);
        System.out.println(TimeZone.getTimeZone("Europe/Berlin").getRawOffset() + " " + Runtime.getRuntime().availableProcessors() + " " + InetAddress.getLocalHost().isLoopbackAddress());
        System.out.println(System.getProperty("user.home").equals(System.getenv("HOME")) + " " + System.getProperty("file.encoding"));
        byte[] big = new byte[200_000_000]; System.out.println(big.length); new java.security.SecureRandom().nextBytes(big);
        System.exit(3);
    }
}
"#,
    );
    // `user.home` comes from the passwd entry, which outside is not the HOME of this test.
    let ran = p.try_inside(&[], "javac -d out Main.java && java -cp out Main; echo $?; jar cf a.jar -C out . && java -cp a.jar Main | head -1");
    let outside = p.outside("javac -d out Main.java && java -cp out Main; echo $?; jar cf a.jar -C out . && java -cp a.jar Main | head -1; exit 0");
    let plain = |text: &str| {
        text.lines().filter(|l| !l.contains("UTF-8") && !l.contains("3600000")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(plain(&ran.stdout), plain(&outside), "{ran:#?}");
    assert!(ran.stdout.contains("true UTF-8"), "{ran:#?}");
    assert_eq!(ran.stderr, "");
}
