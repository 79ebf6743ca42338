package android.content.res;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;

/** As Android's, with a folder in place of the app's package. */
public class AssetManager {
    private final File folder;

    public AssetManager(File folder) {
        this.folder = folder;
    }

    public InputStream open(String path) throws IOException {
        return new FileInputStream(new File(folder, path));
    }
}
