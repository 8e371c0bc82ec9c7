// Package extract finds the adapter that lies between two checkpoints: for each weight that
// differs the low-rank factors nearest to the difference, and the rest whole.
//
// # How to choose
//
// [Extract] does all. [Options] say how far to go: a rank, a share of the energy, an error, or
// a number of bytes, which are spent over all layers where they buy most. [Check] merges the
// result in memory and says where it is not the tuned model.
//
// # What is promised
//
// Every tensor that differs is in the adapter or in the report, or the extraction fails: nothing
// is left out silently. A factorisation is the best one of its rank to within half a percent
// of its error ([lowrank.Range]), and exact where the smaller side is at most 256 or it is
// asked for; its error is measured afterwards, on the factors as they are stored. Differences
// are formed in float32, and in float64 for F64 weights. Memory is that of the layers in work:
// a difference of up to 192 MB each is held, a larger one is made again for every pass; plus
// the factors of all layers, unless a [Store] takes them. The same inputs give the same result
// on one machine.
package extract
