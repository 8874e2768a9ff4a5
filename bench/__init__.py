"""The measurements of Materia's promises: ratios against bare tools in the same run, with their bars."""
