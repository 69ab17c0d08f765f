package sessions_dagster.s3;

import java.io.EOFException;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Pattern;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FSInputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.impl.OpenFileParameters;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.fs.s3a.S3AFileStatus;
import org.apache.hadoop.fs.s3a.S3AFileSystem;
import org.apache.hadoop.util.Progressable;
import org.apache.hadoop.util.functional.FutureIO;

/**
 * Hadoop's connector for S3, which asks once what the commits and data files of a Delta table are. By itself it asks
 * each time that a file is opened.
 *
 * <p>It is exact. Which commits there are, and whether there is a log, is asked each time. What a listing of the log
 * says of its commits and checkpoints holds until the next one, and a commit is not read again as long as its entity tag
 * is the same. Two writers may write the same checkpoint: then the one that was listed is refused until the next listing.
 * Data files are named by UUIDs and are never replaced, unless a table is put back from a copy or made anew. Then its
 * log has other commits, or lacks some, and all that is known of the table is forgotten. If only data files were
 * replaced, a read gives what was there before or is refused, because each one names the entity tag that it expects,
 * and all is forgotten after two minutes.
 *
 * <p>All other files are asked for each time: batches, and what is no part of a table whose log was listed.
 */
public final class WriteOnceFileSystem extends S3AFileSystem {

  private static final String LOG = "_delta_log";
  private static final String CHECKSUM = ".crc";

  private static final Pattern COMMIT = Pattern.compile("[0-9]{20}\\.json");
  private static final Pattern CHECKPOINT = Pattern.compile("[0-9]{20}\\.checkpoint\\.parquet");

  private static final Pattern DATA =
      Pattern.compile("(part-|deletion_vector_).*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}.*\\.(parquet|bin)");

  private static final long KNOWN_FOR_NS = 120_000_000_000L;
  private static final int TABLES_KNOWN = 100;
  private static final int FILES_KNOWN = 20_000;

  private static final int COMMITS_KEPT = 500;
  private static final int BYTES_OF_COMMIT_KEPT = 64 << 10;

  private final Map<Path, Table> tables = newestOf(TABLES_KNOWN);

  /** The contents of commits, by what they are and their entity tags. */
  private final Map<String, byte[]> contents = newestOf(COMMITS_KEPT);

  private static <K, V> Map<K, V> newestOf(int most) {
    return Collections.synchronizedMap(
        new LinkedHashMap<K, V>(16, 0.75f, true) {
          @Override
          protected boolean removeEldestEntry(Map.Entry<K, V> eldest) {
            return size() > most;
          }
        });
  }

  /** What is known of a table whose log was listed. */
  private static final class Table {
    final long listed;
    final boolean hasChecksums;
    final Map<Path, S3AFileStatus> commits = new ConcurrentHashMap<>();
    final Map<Path, S3AFileStatus> checkpoints = new ConcurrentHashMap<>();
    private long since;
    private Map<Path, S3AFileStatus> data = newestOf(FILES_KNOWN);

    Table(FileStatus[] log, long listed) {
      this.listed = listed;
      this.since = listed;
      hasChecksums = Arrays.stream(log).anyMatch(file -> file.getPath().getName().endsWith(CHECKSUM));
      Arrays.stream(log)
          .filter(file -> isCommit(file.getPath()) || isCheckpoint(file.getPath()))
          .forEach(this::remember);
    }

    boolean isOld() {
      return System.nanoTime() - since > KNOWN_FOR_NS;
    }

    /** Whether all commits of an earlier listing are the same ones still. */
    boolean goesOn(Table earlier) {
      return earlier.commits.entrySet().stream()
          .allMatch(
              commit -> {
                S3AFileStatus now = commits.get(commit.getKey());
                return now != null && now.getEtag().equals(commit.getValue().getEtag());
              });
    }

    void takeDataOf(Table earlier) {
      since = earlier.since;
      data = earlier.data;
    }

    FileStatus recall(Path path) {
      return filesLike(path).get(path);
    }

    void remember(FileStatus file) {
      if (file instanceof S3AFileStatus && file.isFile() && ((S3AFileStatus) file).getEtag() != null) {
        filesLike(file.getPath()).put(file.getPath(), (S3AFileStatus) file);
      }
    }

    private Map<Path, S3AFileStatus> filesLike(Path path) {
      return isCommit(path) ? commits : isCheckpoint(path) ? checkpoints : data;
    }
  }

  @Override
  public FileStatus[] listStatus(Path folder) throws IOException {
    Path path = makeQualified(folder);
    if (!path.getName().equals(LOG)) {
      return super.listStatus(path);
    }
    long asked = System.nanoTime();
    try {
      FileStatus[] log = super.listStatus(path);
      note(path.getParent(), new Table(log, asked));
      return log;
    } catch (FileNotFoundException e) {
      tables.remove(path.getParent());
      throw e;
    }
  }

  private void note(Path path, Table table) {
    synchronized (tables) {
      Table earlier = tables.get(path);
      if (earlier != null && earlier.listed - table.listed > 0) {
        // Another thread asked later, and was answered sooner.
        return;
      }
      if (earlier != null && !earlier.isOld() && table.goesOn(earlier)) {
        table.takeDataOf(earlier);
      }
      tables.put(path, table);
    }
  }

  @Override
  public FileStatus getFileStatus(Path file) throws IOException {
    Path path = makeQualified(file);
    Table table = tableOf(path);
    if (table == null) {
      return super.getFileStatus(path);
    }
    if (path.getName().endsWith(CHECKSUM)) {
      if (!table.hasChecksums) {
        // Delta can do without.
        throw new FileNotFoundException(path + " is not in the listing of its log");
      }
      return super.getFileStatus(path);
    }
    FileStatus found = table.recall(path);
    if (found == null) {
      found = super.getFileStatus(path);
      if (!isCheckpoint(path)) {
        // If the table was forgotten meanwhile, so is this.
        table.remember(found);
      }
    }
    return found;
  }

  @Override
  public boolean exists(Path file) throws IOException {
    Path path = makeQualified(file);
    // A log is a folder, so nobody has to ask for an object of its name.
    return path.getName().equals(LOG) ? super.isDirectory(path) : super.exists(path);
  }

  @Override
  public FSDataInputStream open(Path file, int bufferSize) throws IOException {
    return tableOf(makeQualified(file)) == null
        ? super.open(file, bufferSize)
        : FutureIO.awaitFuture(openFile(file).build());
  }

  @Override
  public CompletableFuture<FSDataInputStream> openFileWithOptions(Path file, OpenFileParameters parameters)
      throws IOException {
    // What others know of a file, such as its length, has no entity tag. Without one the stream would take what it
    // remembers of the file, so a batch costs a request even if the caller knows its length.
    if (!(parameters.getStatus() instanceof S3AFileStatus)) {
      parameters.withStatus(getFileStatus(file));
    }
    S3AFileStatus status = (S3AFileStatus) parameters.getStatus();
    Path path = makeQualified(file);
    boolean isKept =
        isCommit(path) && tableOf(path) != null && status.getLen() <= BYTES_OF_COMMIT_KEPT && status.getEtag() != null;
    if (!isKept) {
      return super.openFileWithOptions(file, parameters);
    }
    String commit = path + " " + status.getEtag();
    byte[] content = contents.get(commit);
    if (content == null) {
      content = new byte[(int) status.getLen()];
      try (FSDataInputStream in = FutureIO.awaitFuture(super.openFileWithOptions(file, parameters))) {
        in.readFully(0, content);
      }
      contents.put(commit, content);
    }
    return CompletableFuture.completedFuture(new FSDataInputStream(new Content(content)));
  }

  @Override
  public FSDataOutputStream create(
      Path file,
      FsPermission permission,
      boolean overwrite,
      int bufferSize,
      short replication,
      long blockSize,
      Progressable progress)
      throws IOException {
    Path path = makeQualified(file);
    Table table = isCheckpoint(path) ? tables.get(path.getParent().getParent()) : null;
    if (table != null) {
      table.checkpoints.remove(path);
    }
    return super.create(file, permission, overwrite, bufferSize, replication, blockSize, progress);
  }

  @Override
  public boolean delete(Path path, boolean recursive) throws IOException {
    tables.clear();
    try {
      return super.delete(path, recursive);
    } finally {
      tables.clear();
    }
  }

  @Override
  public boolean rename(Path from, Path to) throws IOException {
    tables.clear();
    try {
      return super.rename(from, to);
    } finally {
      tables.clear();
    }
  }

  private static boolean isCommit(Path path) {
    return isInLog(path) && COMMIT.matcher(path.getName()).matches();
  }

  private static boolean isCheckpoint(Path path) {
    return isInLog(path) && CHECKPOINT.matcher(path.getName()).matches();
  }

  private static boolean isInLog(Path path) {
    return path.getParent() != null && path.getParent().getName().equals(LOG);
  }

  /** What is known of the table that a file is a part of, and that says what it is; null if there is none. */
  private Table tableOf(Path path) {
    String name = path.getName();
    if (isCommit(path) || isCheckpoint(path) || (isInLog(path) && name.endsWith(CHECKSUM))) {
      return knownAt(path.getParent().getParent());
    }
    if (DATA.matcher(name).matches()) {
      for (Path folder = path.getParent(); folder != null; folder = folder.getParent()) {
        Table table = knownAt(folder);
        if (table != null) {
          return table;
        }
      }
    }
    return null;
  }

  private Table knownAt(Path folder) {
    Table table = tables.get(folder);
    return table == null || table.isOld() ? null : table;
  }

  /** The bytes of a small file, as Hadoop wants to read files. */
  private static final class Content extends FSInputStream {
    private final byte[] bytes;
    private int position;

    Content(byte[] bytes) {
      this.bytes = bytes;
    }

    @Override
    public int read() {
      return position < bytes.length ? bytes[position++] & 0xff : -1;
    }

    @Override
    public void seek(long to) throws IOException {
      if (to < 0 || to > bytes.length) {
        throw new EOFException("there is no position " + to + " in " + bytes.length + " bytes");
      }
      position = (int) to;
    }

    @Override
    public long getPos() {
      return position;
    }

    @Override
    public boolean seekToNewSource(long target) {
      return false;
    }
  }
}
