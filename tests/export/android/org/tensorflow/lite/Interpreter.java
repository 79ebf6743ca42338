package org.tensorflow.lite;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;

/** As LiteRT's for Android; LiteRT in Python computes. */
public class Interpreter implements AutoCloseable {
    public static class Options {
        public int threads;

        public Options setNumThreads(int threads) {
            this.threads = threads;
            return this;
        }
    }

    private final File model, image;

    public Interpreter(ByteBuffer model, Options options) {
        try {
            this.model = written("model", model);
            image = File.createTempFile("image", ".raw");
        } catch (IOException error) {
            throw new RuntimeException(error);
        }
    }

    public void run(Object input, Object output) {
        float[] embedding = ((float[][]) output)[0];
        try {
            Files.write(image.toPath(), bytes((ByteBuffer) input));
            String[] python = System.getProperty("python").split("\n");
            Process process = new ProcessBuilder(python[0], python[1], model.getPath(), image.getPath())
                .redirectError(ProcessBuilder.Redirect.INHERIT).start();
            byte[] numbers = process.getInputStream().readAllBytes();
            if (process.waitFor() != 0 || numbers.length != 4 * embedding.length)
                throw new IllegalArgumentException("The model and its input or output do not fit.");
            ByteBuffer.wrap(numbers).order(ByteOrder.nativeOrder()).asFloatBuffer().get(embedding);
        } catch (IOException | InterruptedException error) {
            throw new RuntimeException(error);
        }
    }

    @Override
    public void close() {
        model.delete();
        image.delete();
    }

    private static File written(String name, ByteBuffer content) throws IOException {
        File file = File.createTempFile(name, ".tflite");
        Files.write(file.toPath(), bytes(content));
        return file;
    }

    /** All bytes of a buffer, wherever its position is: a direct buffer is read from its address. */
    private static byte[] bytes(ByteBuffer buffer) {
        if (!buffer.isDirect())
            throw new IllegalArgumentException("LiteRT takes direct buffers only.");
        ByteBuffer copy = buffer.duplicate();
        copy.clear();
        byte[] content = new byte[copy.remaining()];
        copy.get(content);
        return content;
    }
}
