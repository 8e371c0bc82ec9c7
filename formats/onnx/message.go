package onnx

// message is a length-delimited message in the file, for edits: the tag and the length
// come before the body. The file itself is a message that has neither.
type message struct {
	parent      *message // nil for the file
	depth       int
	tag, length int64 // where the field begins, and where its length prefix does
	begin, end  int64 // of the body
}
