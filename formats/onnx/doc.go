// Package onnx reads and edits ONNX files at the level of their wire format: the graph's
// skeleton is kept in memory, the weights are lazy tensors, and an edit is spliced into
// the bytes of the original.
//
// # How to choose
//
// [Open] gives a [Model]: graphs, nodes, names and types, and by [Model.Checkpoint] every
// tensor with data. [NewEdit] starts a change; [Edit.Files] gives the files of the changed
// model as lists of parts, most of them ranges of the original, for formats/publish to
// write. What a graph computes is not this package's business.
//
// # What is promised
//
// Opening reads the skeleton and skips the weights, so it takes memory for names and
// structure alone. Every offset, length, count and depth is checked before it is used, and
// what protobuf and ONNX leave open is either read in the one way that all readers share
// or refused: scalars that are given twice are the last one, a graph in several chunks is
// one graph, unknown fields stay; a message that would have to be merged, groups and wrong
// wire types are errors that name the byte. External data is read only from regular files
// in the model's directory.
//
// What is not edited keeps its bytes: unknown fields, orders, varints that are longer than
// they need be. Only the length prefixes around an edit are written anew, and only where
// the length changed.
//
// The formats: https://protobuf.dev/programming-guides/encoding and onnx/onnx.proto,
// docs/ExternalData.md and docs/IR.md of https://github.com/onnx/onnx.
package onnx
