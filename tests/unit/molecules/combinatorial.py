"""Molecules made on the spot: cores of drugs with what is often bound to them."""

CORES = (
    "c1ccc({})cc1",
    "c1cnc({})nc1",
    "O=C({})N1CCOCC1",
    "c1ccc2c(c1)ncn2{}",
    "O=S(=O)({})N1CCCC1",
    "C1CCC({})CC1",
    "c1csc({})n1",
    "O=C(NC1CC1){}",
)
RESTS = (
    "c1ccccc1F",
    "CCN(C)C",
    "Cc1ccncc1",
    "c1ccc(OC)cc1",
    "CC(C)C",
    "C1CCN(C(C)=O)CC1",
    "CCc1c[nH]c2ccccc12",
    "c1ccc(Cl)cc1",
)
MOLECULES = tuple(core.format(rest) for core in CORES for rest in RESTS)
# What a chemist would not look at, and what is hardly a molecule.
ODD = (
    "C1CCCCCCC1",
    "CC(=O)[O-].[Na+]",
    "C[N+](C)(C)CC(=O)[O-]",
    "CP(C)C",
    "CC=O",
    "C1OC1C",
    "O=C1C=CC(=O)C=C1",
    "Oc1ccccc1O",
    "CSSC",
    "C=CC#N",
    "BrC(Br)Br",
    "S=C1NC(=O)C(=Cc2ccccc2)S1",
    "CN=NC",
    "OCO",
    "[H][H]",
    "*C",
)
