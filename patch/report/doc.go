// Package report writes what was measured as one HTML page: a sentence, figures, a heat map
// of layers, curves and tables to search.
//
// # How to choose
//
// Fill a [Page] and call [Write]. Its parts stand one below the other:
//
//   - [HeatMap] shows one number for each of many things that lie in a grid, such as the
//     modules of all layers; several measures take turns.
//   - [Table] lists things with their numbers, to sort and to filter; [Table.Plain] is a
//     small one that stays as it is.
//   - [Details] is the place where the [Item] that the reader has chosen shows its facts,
//     charts and matrices. Cells of heat maps and rows of tables choose one.
//
// # What is promised
//
// The page is one file that asks no network for anything, and says so to the browser: its
// content security policy lets the page's own script and style run and nothing else, so that
// names found in files are text whatever they hold. Control and format characters in them
// show as escapes. Names are shown in their own direction, and cut for the eye alone.
//
// The page follows the reader's light or dark scheme, needs no more than the width of a
// phone, and works by keyboard. Ten thousand rows and some hundred items with spectra are no
// trouble: what is not in view is not drawn. Numbers in pictures have six digits.
package report
