// Stands in for the package TensorFlowLiteSwift: the same signatures, and LiteRT in a Python process.
// The environment variable PYTHON has the command, a word on each line.
import Foundation

public struct Tensor {
    public let data: Data
}

public final class Interpreter {
    public struct Options {
        public var threadCount: Int?
        public init() {}
    }

    private let model: String
    private var image = Data()
    private var embedding = Data()

    public init(modelPath: String, options: Options? = nil) throws {
        model = modelPath
    }

    public func allocateTensors() throws {}

    @discardableResult
    public func copy(_ data: Data, toInputAt index: Int) throws -> Tensor {
        image = data
        return Tensor(data: data)
    }

    public func invoke() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try image.write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        var words = ProcessInfo.processInfo.environment["PYTHON"]!.split(separator: "\n").map(String.init)
        let (process, output) = (Process(), Pipe())
        process.executableURL = URL(fileURLWithPath: words.removeFirst())
        process.arguments = words + [model, file.path]
        process.standardOutput = output
        try process.run()
        embedding = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw CocoaError(.fileReadCorruptFile) }
    }

    public func output(at index: Int) throws -> Tensor {
        Tensor(data: embedding)
    }
}
