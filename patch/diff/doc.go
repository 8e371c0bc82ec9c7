// Package diff compares checkpoints, and adapters by what they do.
//
// # How to choose
//
//   - [Checkpoints] compares models tensor by tensor: which are there, their types and
//     shapes, then every value. [Result] says what it found.
//   - [Adapters] compares what two adapters add to a model: ΔW = s·B·A of each module, from
//     the factors. Two adapters may store other factors, in other dialects, and be the
//     same; what they save or scale beside (DoRA's magnitudes, whole parameters) is
//     compared as tensors.
//   - [Stored] makes a checkpoint of an adapter's tensors, for a comparison by name.
//   - [Configs] compares JSON texts key by key, [SideFiles] other files by their bytes.
//
// # What is promised
//
// Every element is read and compared in float64, in which F64, F32, F16 and BF16 are exact;
// types that are no such floats are compared by their bits. Memory is workers × block for
// tensors, and for adapters a budget of factors. Results are the same for any number of
// workers: sums are added in the order of the tensor.
package diff
