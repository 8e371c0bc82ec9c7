package formats

// Limits on what an input may claim, checked before memory is taken for it. Each
// is far above what real models need and far below what hurts.
const (
	// MaxHeaderBytes bounds a safetensors header; the reference library has the
	// same limit, so no valid file exceeds it.
	MaxHeaderBytes = 100_000_000
	// MaxTensors bounds the tensors of one file. The largest mixture-of-experts
	// checkpoints have about 100,000.
	MaxTensors = 1_000_000
	// MaxNameBytes bounds a tensor's name; real ones stay under 200.
	MaxNameBytes = 4096
	// MaxRank bounds the number of dimensions, as numpy does.
	MaxRank = 64
	// MaxJSONDepth bounds nesting in configs and headers. Model configs nest at
	// most six deep.
	MaxJSONDepth = 64
	// MaxMetadataBytes bounds the text of __metadata__ in one file.
	MaxMetadataBytes = 16 << 20
	// MaxIndexBytes bounds model.safetensors.index.json; the largest seen is 10 MB.
	MaxIndexBytes = 64 << 20
	// MaxConfigBytes bounds config.json and adapter_config.json.
	MaxConfigBytes = 8 << 20
	// MaxTokenizerBytes bounds tokenizer.json; those with 256k entries take 33 MB.
	MaxTokenizerBytes = 256 << 20
	// MaxShards bounds the files of one checkpoint.
	MaxShards = 100_000
	// MaxSideFileBytes bounds one side file; tokenizers are the largest.
	MaxSideFileBytes = 1 << 30
	// MaxSideFiles bounds the files carried beside the weights.
	MaxSideFiles = 10_000
	// MaxAdapterRank bounds a low-rank update's rank: no linear layer is wider.
	MaxAdapterRank = 1 << 20
	// MaxLineBytes bounds one line of training data.
	MaxLineBytes = 64 << 20
	// MaxProtobufBytes bounds an ONNX file without its external data: protobuf's own
	// limit on a message, so no valid file exceeds it.
	MaxProtobufBytes = 1<<31 - 1
	// MaxProtobufDepth bounds the nesting of messages, as protobuf's C++ and Python
	// readers do. A graph in a graph takes three.
	MaxProtobufDepth = 100
	// MaxSkeletonBytes bounds the memory for a graph without its weights. Exports of
	// large models take about 50 MB, with their stack traces; a file of nothing but tiny
	// nodes takes eighty times its own size.
	MaxSkeletonBytes = 256 << 20
)
