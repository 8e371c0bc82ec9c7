// Package lowrank is linear algebra on products of thin factors, in float64.
//
// # How to choose
//
//   - [Read] and [FromUpdate] take stored factors into memory; a [Product] is s·B·A. [Sum]
//     and [Difference] join products without forming the full matrix.
//   - [Decompose] gives the singular value decomposition of a product, [SingularValues]
//     the values alone. [SVD.Truncated] makes factors of a lower rank: the best ones
//     (Eckart and Young, 1936).
//   - Of a matrix that is no such product, [Leading] gives the triplets that approximate it well,
//     [Dominant] the exact ones, and [LeadingQR] the first columns of its QR factorisation. A matrix that is too
//     large to hold is an [Operator].
//   - [RankForEnergy], [RankForError] and [RankForRelativeError] read a rank off a
//     spectrum; [EffectiveRank] and [StableRank] describe one.
//   - [Norm], [Distance], [Inner] and [Cosine] measure products; [Similarity] compares
//     subspaces as the LoRA paper does.
//
// # What is promised
//
// Nothing of the size out×in is ever made: a product of rank r takes O((out+in)·r) memory
// and O((out+in)·r²) time. Small distances keep their digits: they come from orthogonal
// factors of the difference and never from differences of squared norms, which lose half
// of all digits. The same input gives the same bits on one machine, whatever the number of
// workers. A matrix here is a dense row-major [mat.Dense]; shapes are written rows×columns.
package lowrank
