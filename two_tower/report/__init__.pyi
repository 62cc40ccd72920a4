from .page import write_failure_page as write_failure_page, write_report as write_report
