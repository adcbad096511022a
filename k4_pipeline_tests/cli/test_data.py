"""`k4 data check` on a folder as people have it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from k4_pipeline.cli import app


def test_a_folder_of_untidy_files_is_read_and_what_is_left_out_is_said_once(tmp_path):
    days = pd.bdate_range("2020-01-01", periods=300)
    close = 10 + np.sin(np.arange(300) / 7)
    table = pd.DataFrame({"Date": days, "Open": close, "High": close + 0.5, "Low": close - 0.5, "Close": close})
    table["Volume"] = 1000
    table.to_csv(tmp_path / "abc.csv", index=False)
    european = table.set_axis(["Datum", "Eröffnung", "Hoch", "Tief", "Schluss", "Volumen"], axis=1)
    european["Datum"] = days.strftime("%d.%m.%Y")
    european.to_csv(tmp_path / "xyz.csv", sep=";", decimal=",", index=False, encoding="cp1252")
    table.head(20).iloc[::-1].to_csv(tmp_path / "few.csv", index=False)
    table.drop(table.index[100:160]).to_csv(tmp_path / "gap.csv", index=False)
    (tmp_path / "empty.csv").write_text("")
    text = CliRunner().invoke(app, ["data", "check", "--path", str(tmp_path), "--home", str(tmp_path / "home")]).stdout
    assert "860 rows read, 860 kept, 0 refused; 4 tickers in 5 listings" in text
    assert "decimal ','" in text
    assert text.count("empty.csv is empty") == 1
