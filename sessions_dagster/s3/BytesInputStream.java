package sessions_dagster.s3;

import java.io.ByteArrayInputStream;
import java.io.EOFException;
import java.io.IOException;
import org.apache.hadoop.fs.PositionedReadable;
import org.apache.hadoop.fs.Seekable;

/** The bytes of a small file, as Hadoop wants to read files. */
final class BytesInputStream extends ByteArrayInputStream implements Seekable, PositionedReadable {

  BytesInputStream(byte[] bytes) {
    super(bytes);
  }

  @Override
  public synchronized void seek(long position) throws IOException {
    if (position < 0 || position > count) {
      throw new EOFException("there is no position " + position + " in " + count + " bytes");
    }
    pos = (int) position;
  }

  @Override
  public synchronized long getPos() {
    return pos;
  }

  @Override
  public boolean seekToNewSource(long position) {
    return false;
  }

  @Override
  public int read(long position, byte[] buffer, int offset, int length) {
    if (position < 0 || position >= count) {
      return -1;
    }
    int read = Math.min(length, count - (int) position);
    System.arraycopy(buf, (int) position, buffer, offset, read);
    return read;
  }

  @Override
  public void readFully(long position, byte[] buffer, int offset, int length) throws IOException {
    if (length > 0 && read(position, buffer, offset, length) < length) {
      throw new EOFException("there are no " + length + " bytes at position " + position + " of " + count);
    }
  }

  @Override
  public void readFully(long position, byte[] buffer) throws IOException {
    readFully(position, buffer, 0, buffer.length);
  }
}
