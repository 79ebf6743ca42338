package android.content;

import android.content.res.AssetManager;

/** As Android's, as far as the code of a bundle calls it. */
public class Context {
    private final AssetManager assets;

    public Context(AssetManager assets) {
        this.assets = assets;
    }

    public AssetManager getAssets() {
        return assets;
    }
}
