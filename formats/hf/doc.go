// Package hf reads and writes Hugging Face model directories: weight files with
// their index, the config, and the side files that belong to a model.
//
// # How to choose
//
// [Open] opens a directory, a snapshot of the Hugging Face cache or the cache
// folder of a model. [Write] publishes a checkpoint again, under the layout it came
// in; [Reshard] gives it files of another size before. [ReadConfig] and [FamilyOf] give
// the plain facts that choosing and naming layers needs. For one bare file use
// formats/safetensors.
//
// # What is promised
//
// Index and files are checked against each other in both directions before anything
// is used. Names found in files are confined to the directory, with one exception:
// links from a cache's snapshots into its blobs. Side files are carried byte for byte.
// Few files are open at a time, however many shards there are; one that changes between
// two looks at it is refused.
//
// Output is published by formats/publish, with what that promises.
package hf
