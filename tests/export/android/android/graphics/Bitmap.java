package android.graphics;

/** As Android's, as far as the code of a bundle calls it: pixels are 0xAARRGGBB. */
public class Bitmap {
    private final int[] pixels;
    private final int width, height;

    public Bitmap(int[] pixels, int width, int height) {
        this.pixels = pixels;
        this.width = width;
        this.height = height;
    }

    public int getWidth() {
        return width;
    }

    public int getHeight() {
        return height;
    }

    public void getPixels(int[] target, int offset, int stride, int x, int y, int width, int height) {
        for (int row = 0; row < height; row++)
            System.arraycopy(pixels, (y + row) * this.width + x, target, offset + row * stride, width);
    }
}
