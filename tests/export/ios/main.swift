// An app with the code of a bundle: FOLDER PHOTO.rgba WIDTH HEIGHT X1 Y1 ... X5 Y5 CROP.rgb
import CoreGraphics
import Foundation

let arguments = CommandLine.arguments
let folder = URL(fileURLWithPath: arguments[1])
let embedder = try FaceEmbedder(folder: folder)
print(try FaceEmbedder.selfTest(folder: folder, embed: embedder.embed))
print(try FaceEmbedder.selfTest(folder: folder) { crop in
    let swapped = crop.data.indices.map { crop.data[$0 / 3 * 3 + 2 - $0 % 3] }
    return try embedder.embed(RGB(data: swapped, width: crop.width, height: crop.height))
})
print(FaceEmbedder.cosine([2, 0], [0.6, 0.8]))
print(FaceEmbedder.samePerson(0.99)!, FaceEmbedder.samePerson(-0.5)!)
let rgba = [UInt8](try Data(contentsOf: URL(fileURLWithPath: arguments[2])))
let image = CGImage(rgba: rgba, width: Int(arguments[3])!, height: Int(arguments[4])!)
let points = (0..<5).map { [Double(arguments[5 + 2 * $0])!, Double(arguments[6 + 2 * $0])!] }
let crop = FaceEmbedder.align(RGB(image)!, points)
try Data(crop.data).write(to: URL(fileURLWithPath: arguments[15]))
