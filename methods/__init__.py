"""The catalogue of methods: name -> module and class. Controls are methods that a comparison needs beside it."""

CATALOGUE = {
    "dais": "methods.dais:DAIS",
    "dcss": "methods.dcss:DCSS",
    "fpgm": "methods.fpgm:FPGM",
    "gdp": "methods.gdp:GDP",
    "group-l2": "methods.group_l2:GroupL2",
    "hrank": "methods.hrank:HRank",
    "l1": "methods.l1:L1",
    "lamp": "methods.lamp:LAMP",
    "slimming": "methods.slimming:Slimming",
    "tas": "methods.tas:TAS",
    "taylor": "methods.taylor:Taylor",
}
CONTROLS = {
    "dense-longer": "methods.dense_longer:DenseLonger",
    "random": "methods.random:Random",
    "random-widths": "methods.random_widths:RandomWidths",
    "uniform-scratch": "methods.uniform:UniformScratch",
}
