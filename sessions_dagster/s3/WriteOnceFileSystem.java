package sessions_dagster.s3;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStreamBuilder;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.impl.OpenFileParameters;
import org.apache.hadoop.fs.s3a.S3AFileStatus;
import org.apache.hadoop.fs.s3a.S3AFileSystem;
import org.apache.hadoop.util.functional.FutureIO;

/**
 * Hadoop's connector for S3, which asks once what the files of a Delta table are: they are written once and never
 * replaced. What the listing of a log says of its files is not asked for again, and a commit whose entity tag in the
 * newest listing is that of what was read is not read again. By itself the connector asks each time that a file is
 * opened.
 *
 * <p>All other files are asked for each time, since they may be replaced: the batches, and what is no part of a table.
 * So is whatever has been known for ten minutes: a table may be put back from a copy of its files.
 */
public final class WriteOnceFileSystem extends S3AFileSystem {

  private static final String LOG = "_delta_log";

  private static final Pattern COMMIT = Pattern.compile("[0-9]{20}\\.json");
  private static final Pattern OF_LOG = Pattern.compile("[0-9]{20}\\.(json|crc|checkpoint\\.parquet)");

  private static final Pattern DATA =
      Pattern.compile("(part-|deletion_vector_).*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}.*\\.(parquet|bin)");

  private static final long KNOWN_FOR_NS = 600_000_000_000L;
  private static final int FILES_KNOWN = 20_000;

  private static final int COMMITS_KEPT = 500;
  private static final int BYTES_OF_COMMIT_KEPT = 64 << 10;

  private final Map<Path, Known> known = newestOf(FILES_KNOWN);
  private final Map<Path, Commit> commits = newestOf(COMMITS_KEPT);

  private static final class Known {
    final FileStatus status;
    final long since = System.nanoTime();

    Known(FileStatus status) {
      this.status = status;
    }

    boolean isOld() {
      return System.nanoTime() - since > KNOWN_FOR_NS;
    }
  }

  private static final class Commit {
    final String tag;
    final byte[] content;

    Commit(String tag, byte[] content) {
      this.tag = tag;
      this.content = content;
    }
  }

  private static <V> Map<Path, V> newestOf(int most) {
    return Collections.synchronizedMap(
        new LinkedHashMap<Path, V>(16, 0.75f, true) {
          @Override
          protected boolean removeEldestEntry(Map.Entry<Path, V> eldest) {
            return size() > most;
          }
        });
  }

  @Override
  public FileStatus[] listStatus(Path folder) throws IOException {
    Path path = makeQualified(folder);
    if (!path.getName().equals(LOG)) {
      return super.listStatus(path);
    }
    FileStatus[] found;
    try {
      found = super.listStatus(path);
    } catch (FileNotFoundException e) {
      forgetAllIn(path, new HashSet<>());
      throw e;
    }
    Set<Path> there =
        Arrays.stream(found)
            .map(FileStatus::getPath)
            .filter(file -> OF_LOG.matcher(file.getName()).matches())
            .collect(Collectors.toSet());
    forgetAllIn(path, there);
    if (!there.isEmpty()) {
      known.put(path, new Known(new S3AFileStatus(false, path, getUsername())));
      for (FileStatus file : found) {
        remember(file);
      }
    }
    return found;
  }

  @Override
  public FileStatus getFileStatus(Path file) throws IOException {
    Path path = makeQualified(file);
    FileStatus recalled = recall(path);
    if (recalled != null) {
      return recalled;
    }
    if (isMissingChecksum(path)) {
      throw new FileNotFoundException(path + " is not in the listing of its log");
    }
    FileStatus found = super.getFileStatus(path);
    remember(found);
    return found;
  }

  @Override
  public boolean exists(Path file) throws IOException {
    Path path = makeQualified(file);
    // A log is a folder, so nobody has to ask for an object of its name.
    return path.getName().equals(LOG) ? recall(path) != null || super.isDirectory(path) : super.exists(path);
  }

  @Override
  public FSDataInputStream open(Path file, int bufferSize) throws IOException {
    return isWrittenOnce(makeQualified(file))
        ? FutureIO.awaitFuture(openFile(file).build())
        : super.open(file, bufferSize);
  }

  @Override
  public CompletableFuture<FSDataInputStream> openFileWithOptions(Path file, OpenFileParameters parameters)
      throws IOException {
    // What others know of a file has no entity tag. Without one the stream would take what it remembers of the file.
    if (!(parameters.getStatus() instanceof S3AFileStatus)) {
      parameters.withStatus(getFileStatus(file));
    }
    S3AFileStatus status = (S3AFileStatus) parameters.getStatus();
    Path path = makeQualified(file);
    boolean isKept =
        COMMIT.matcher(path.getName()).matches()
            && isWrittenOnce(path)
            && status.getLen() <= BYTES_OF_COMMIT_KEPT
            && status.getEtag() != null;
    if (!isKept) {
      return super.openFileWithOptions(file, parameters);
    }
    Commit commit = commits.get(path);
    if (commit == null || !commit.tag.equals(status.getEtag())) {
      byte[] content = new byte[(int) status.getLen()];
      try (FSDataInputStream in = FutureIO.awaitFuture(super.openFileWithOptions(file, parameters))) {
        in.readFully(0, content);
      }
      commit = new Commit(status.getEtag(), content);
      commits.put(path, commit);
    }
    return CompletableFuture.completedFuture(new FSDataInputStream(new BytesInputStream(commit.content)));
  }

  @Override
  @SuppressWarnings("rawtypes")
  public FSDataOutputStreamBuilder createFile(Path file) {
    known.remove(makeQualified(file));
    return super.createFile(file);
  }

  @Override
  public boolean delete(Path path, boolean recursive) throws IOException {
    known.clear();
    return super.delete(path, recursive);
  }

  @Override
  public boolean rename(Path from, Path to) throws IOException {
    known.clear();
    return super.rename(from, to);
  }

  private void remember(FileStatus file) {
    if (file instanceof S3AFileStatus && file.isFile() && isWrittenOnce(file.getPath())) {
      known.put(file.getPath(), new Known(file));
    }
  }

  private FileStatus recall(Path path) {
    Known recalled = known.get(path);
    if (recalled == null) {
      return null;
    }
    if (recalled.isOld()) {
      known.remove(path);
      return null;
    }
    return recalled.status;
  }

  /** Whether a file is a part of a table whose log has been listed, and is never replaced. */
  private boolean isWrittenOnce(Path path) {
    if (OF_LOG.matcher(path.getName()).matches()) {
      return known.containsKey(path.getParent());
    }
    return DATA.matcher(path.getName()).matches() && isInTable(path.getParent());
  }

  /** Whether a file is the checksum of a version whose log has been listed without it. Delta can do without. */
  private boolean isMissingChecksum(Path path) {
    return path.getName().endsWith(".crc") && recall(path.getParent()) != null;
  }

  private boolean isInTable(Path folder) {
    for (Path each = folder; each != null && !each.isRoot(); each = each.getParent()) {
      if (known.containsKey(new Path(each, LOG))) {
        return true;
      }
    }
    return false;
  }

  private void forgetAllIn(Path log, Set<Path> butThese) {
    synchronized (known) {
      known.keySet().removeIf(path -> log.equals(path) || (log.equals(path.getParent()) && !butThese.contains(path)));
    }
  }
}
