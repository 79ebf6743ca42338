// An app with the code of a bundle: FOLDER PHOTO.argb WIDTH HEIGHT X1 Y1 ... X5 Y5 CROP.rgb
import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.File
import java.nio.ByteBuffer

fun main(arguments: Array<String>) {
    val folder = File(arguments[0])
    val context = Context(AssetManager(folder.parentFile))
    FaceEmbedder.open(context, folder.name).use { embedder ->
        println(FaceEmbedder.selfTest(context, folder.name, embed = embedder::embed))
        println(FaceEmbedder.selfTest(context, folder.name) { crop ->
            val swapped = ByteArray(crop.data.size) { crop.data[it / 3 * 3 + 2 - it % 3] }
            embedder.embed(Rgb(swapped, crop.width, crop.height))
        })
    }
    println(FaceEmbedder.cosine(floatArrayOf(2f, 0f), floatArrayOf(0.6f, 0.8f)))
    println("${FaceEmbedder.samePerson(0.99)} ${FaceEmbedder.samePerson(-0.5)}")
    val (width, height) = arguments[2].toInt() to arguments[3].toInt()
    val argb = IntArray(width * height)
    ByteBuffer.wrap(File(arguments[1]).readBytes()).asIntBuffer().get(argb)
    val points = Array(5) { doubleArrayOf(arguments[4 + 2 * it].toDouble(), arguments[5 + 2 * it].toDouble()) }
    val crop = FaceEmbedder.align(Rgb.of(Bitmap(argb, width, height)), points)
    File(arguments[14]).writeBytes(crop.data)
}
