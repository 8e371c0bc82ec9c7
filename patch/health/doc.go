// Package health says in what state weights are: whether an adapter is sound, and how much
// rank a model's own weights have.
//
// # How to choose
//
//   - [Check] reads all factors of an adapter and reports what is wrong or odd as [Finding]s,
//     with the numbers of every module beside. With the weights of the base it also
//     compares sizes, magnitudes and parameters that are saved whole.
//   - [Advise] reads off such a result which rank every module needs.
//   - [Spectra] describes the singular values of a model's layers: exactly where they are
//     small, by stochastic Lanczos quadrature where they are large.
//
// # What is promised
//
// No number that is wrong in an adapter stops a check: it reports all of them, and fails only
// where a file cannot be read, factors do not fit together, or the base is not finite. Results
// are plain data, fit for JSON: no number in them is infinite or NaN. They are the same for any
// number of workers. Memory is bounded by a budget, unless one module alone needs more.
package health
