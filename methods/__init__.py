"""The catalogue of methods: name -> module and class. Controls are methods that a comparison needs beside it."""

CATALOGUE = {
    "dais": "methods.dais:DAIS",
    "dcss": "methods.dcss:DCSS",
    "gdp": "methods.gdp:GDP",
    "l1": "methods.l1:L1",
    "tas": "methods.tas:TAS",
}
CONTROLS = {
    "dense-longer": "methods.dense_longer:DenseLonger",
    "random": "methods.random:Random",
    "random-widths": "methods.random_widths:RandomWidths",
    "uniform-scratch": "methods.uniform:UniformScratch",
}
