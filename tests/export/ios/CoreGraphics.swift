// Stands in for the parts of CoreGraphics that the code of a bundle calls: an image in memory.
import Foundation

public final class CGImage {
    public let width: Int
    public let height: Int
    let rgba: [UInt8]

    public init(rgba: [UInt8], width: Int, height: Int) {
        (self.rgba, self.width, self.height) = (rgba, width, height)
    }
}

public final class CGColorSpace {
    public static let sRGB = "sRGB" as NSString

    public init?(name: NSString) {}
}

public enum CGImageAlphaInfo: UInt32 {
    case noneSkipLast = 5
}

public final class CGContext {
    private let data: UnsafeMutableRawPointer?

    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) {
        guard bitsPerComponent == 8, bytesPerRow == 4 * width,
              bitmapInfo == CGImageAlphaInfo.noneSkipLast.rawValue
        else { return nil }
        self.data = data
    }

    public func draw(_ image: CGImage, in area: CGRect) {
        precondition(area == CGRect(x: 0, y: 0, width: image.width, height: image.height))
        data!.copyMemory(from: image.rgba, byteCount: image.rgba.count)
    }
}
