"""Labels by DFT, or by any other ASE calculator: settings, frames in, labelled frames out."""
