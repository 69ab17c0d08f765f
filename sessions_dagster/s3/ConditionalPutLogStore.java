package sessions_dagster.s3;

import io.delta.storage.S3SingleDriverLogStore;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.Iterator;
import java.util.Set;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FSDataOutputStreamBuilder;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.s3a.RemoteFileChangedException;
import org.apache.hadoop.io.IOUtils;

/**
 * Delta's log on S3, where a commit is put only if there is none of its version yet. The store decides that, for all
 * writers. Delta's own log store looks whether there is one, and then puts it without a condition.
 */
public final class ConditionalPutLogStore extends S3SingleDriverLogStore {

  private static final String IF_NONE_MATCH = "fs.option.create.conditional.overwrite";

  /** The code of the answer 409: somebody else puts or removes the same object just now. */
  private static final String IN_PROGRESS = "ConditionalRequestConflict";

  private static final int ATTEMPTS = 5;
  private static final long FIRST_WAIT_MS = 100;

  /** Its name sorts behind those of commits, and neither Delta nor delta-rs takes it for a part of the log. */
  private static final String PROBE = "_put_if_absent";

  private static final byte[] PROBE_CONTENT =
      "Put once per process, to see that the store refuses what is there already.\n".getBytes(StandardCharsets.UTF_8);

  private static final String ENDPOINT = "fs.s3a.endpoint";

  /** Buckets with the endpoint that they are at: sessions of one server may have several. */
  private static final Set<String> STORES_THAT_REFUSE = Collections.synchronizedSet(new HashSet<>());

  public ConditionalPutLogStore(Configuration conf) {
    super(conf);
  }

  @Override
  public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration conf) throws IOException {
    if (overwrite) {
      super.write(path, actions, true, conf);
      return;
    }
    FileSystem store = path.getFileSystem(conf);
    checkThatStoreRefuses(store, path.getParent());
    byte[] content = lines(actions);
    for (int attempt = 1; ; attempt++) {
      try {
        putIfAbsent(store, path, content);
        return;
      } catch (IOException e) {
        if (isThere(store, path, e)) {
          // A put whose answer was lost is repeated by the client, and then refused because of itself.
          if (Arrays.equals(content, read(store, path))) {
            return;
          }
          throw (IOException) new FileAlreadyExistsException(path.toString()).initCause(e);
        }
        if (attempt == ATTEMPTS || !String.valueOf(e).contains(IN_PROGRESS)) {
          throw e;
        }
        pause(attempt * FIRST_WAIT_MS);
      }
    }
  }

  /** One request per process and bucket, or two if there is no probe yet. */
  private static void checkThatStoreRefuses(FileSystem store, Path log) throws IOException {
    String bucket = store.getUri() + " at " + store.getConf().getTrimmed(ENDPOINT, "");
    if (STORES_THAT_REFUSE.contains(bucket)) {
      return;
    }
    Path probe = new Path(log, PROBE);
    if (!isRefused(store, probe) && !isRefused(store, probe)) {
      throw new IOException(
          "CONDITIONAL_PUT_IGNORED: the store of " + store.getUri() + " puts an object that is there already, although "
              + "the request says If-None-Match");
    }
    STORES_THAT_REFUSE.add(bucket);
  }

  private static boolean isRefused(FileSystem store, Path probe) throws IOException {
    try {
      putIfAbsent(store, probe, PROBE_CONTENT);
      return false;
    } catch (RemoteFileChangedException e) {
      return true;
    } catch (IOException e) {
      // Another process puts it just now.
      if (String.valueOf(e).contains(IN_PROGRESS)) {
        return true;
      }
      throw e;
    }
  }

  private static void putIfAbsent(FileSystem store, Path path, byte[] content) throws IOException {
    FSDataOutputStreamBuilder<?, ?> builder = store.createFile(path).overwrite(true);
    // An older connector does not know this option, and refuses it because it is a must.
    builder.must(IF_NONE_MATCH, true);
    FSDataOutputStream out = builder.build();
    try {
      out.write(content);
    } catch (IOException | RuntimeException e) {
      // To close it would put the half that is written.
      out.abort();
      throw e;
    }
    out.close();
  }

  private static boolean isThere(FileSystem store, Path path, IOException refusal) throws IOException {
    try {
      return store.exists(path);
    } catch (IOException e) {
      refusal.addSuppressed(e);
      throw refusal;
    }
  }

  private static byte[] lines(Iterator<String> actions) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    while (actions.hasNext()) {
      bytes.write((actions.next() + "\n").getBytes(StandardCharsets.UTF_8));
    }
    return bytes.toByteArray();
  }

  private static byte[] read(FileSystem store, Path path) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (FSDataInputStream in = store.open(path)) {
      IOUtils.copyBytes(in, bytes, 4096);
    }
    return bytes.toByteArray();
  }

  private static void pause(long milliseconds) throws InterruptedIOException {
    try {
      Thread.sleep(milliseconds);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new InterruptedIOException(e.getMessage());
    }
  }
}
