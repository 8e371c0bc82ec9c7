// Package score measures predictions of classes and numbers against what they should be.
//
// # How to choose
//
// [Accuracy] and [F1] are for classes, one a text; [LabelF1], [MacroLabelF1] and [SubsetAccuracy]
// are for texts with any number of labels. [Pearson] and [Spearman] are for numbers, such as similarities: the first sees how
// well a line fits, the second how well the order does. [Best] and [Above] turn the
// scores of a model into classes and labels, and [Cosines] embeddings into similarities.
//
// # What is promised
//
// The definitions are those of scikit-learn and SciPy, with 0 where scikit-learn would
// warn and give 0. Sums are in float64. Lengths that do not fit are programming errors and
// panic.
package score
